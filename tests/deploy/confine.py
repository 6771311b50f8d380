# SPDX-License-Identifier: Apache-2.0
"""Runs a program in another root directory as a supervisor would: see Service in machine.py. Called in namespaces of its own."""
import argparse
import errno
import os
import pathlib
import subprocess

import seccomp


def mount(*arguments):
    """mount(8)."""
    subprocess.run(["/usr/bin/mount", *map(str, arguments)], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", required=True)
    parser.add_argument("--writable", action="append", default=[])
    parser.add_argument("--system-calls")
    parser.add_argument("--environment", action="append", default=[])
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    wanted = parser.parse_args()
    root = wanted.root
    subprocess.run(["/usr/sbin/ip", "link", "set", "lo", "up"], check=True)
    mount("--bind", root, root)
    mount("--bind", "/dev", root / "dev")
    mount("-t", "proc", "proc", root / "proc")
    for path in wanted.writable:
        mount("--bind", root / path.lstrip("/"), root / path.lstrip("/"))
    mount("-o", "remount,bind,ro", root)

    calls = None
    if wanted.system_calls:
        calls = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
        for name in pathlib.Path(wanted.system_calls).read_text(encoding="ascii").split():
            try:
                calls.add_rule(seccomp.ALLOW, name)
            except (RuntimeError, OSError):
                pass  # not one of this architecture
    os.chroot(root)
    os.chdir("/")
    uid, gid = ids(wanted.user)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(0o077)
    if calls:
        calls.load()
    environment = dict(entry.split("=", 1) for entry in wanted.environment)
    os.execve(wanted.command[0], wanted.command, {"PATH": "/usr/bin:/bin", **environment})


def ids(user):
    """(uid, gid) of a name in this root directory, or of UID:GID."""
    if ":" in user:
        uid, gid = user.split(":")
        return int(uid), int(gid)
    for line in pathlib.Path("/etc/passwd").read_text(encoding="utf-8").splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise SystemExit(f"there is no user {user}")


if __name__ == "__main__":
    main()
