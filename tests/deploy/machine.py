# SPDX-License-Identifier: Apache-2.0
"""A Debian in a folder: commands run in it as on a machine of its own, with its own network, on the same kernel."""
import pathlib
import shutil
import signal
import subprocess
import sys

from harness.wait import wait_until

CONFINE = pathlib.Path(__file__).resolve().parent / "confine.py"
PATIENCE_S = 60


class Place:
    """A root directory to run services in, and a directory for their logs."""

    def __init__(self, directory, root):
        self.directory = pathlib.Path(directory)
        self.root = pathlib.Path(root)

    def start(self, command, **confinement):
        """A service there; see Service."""
        return Service(self, command, **confinement)


class Machine(Place):
    """Unpacks `base` below `directory`."""

    def __init__(self, directory, base):
        super().__init__(directory, pathlib.Path(directory) / "root")
        self.root.mkdir()
        subprocess.run(["tar", "-xf", str(base), "-C", str(self.root), "--exclude=./dev/*"], check=True)
        # Nothing that is installed starts by itself.
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")

    def run(self, *command, code=0):
        """Runs a command as root, on the network of the outer machine (for apt), and answers what it said."""
        script = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, str(self.root), *map(str, command)], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1500,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"})
        assert code is None or done.returncode == code, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}"
        return done.stdout

    def install(self, package):
        """apt-get install of a package file, with all that it depends on."""
        target = self.root / "tmp" / package.name
        shutil.copy(package, target)
        if not any((self.root / "var/lib/apt/lists").glob("*Packages*")):
            self.run("apt-get", "update", "-q")
        said = self.run("apt-get", "install", "-q", "-y", "--no-install-recommends", f"/tmp/{package.name}")
        target.unlink()
        return said

    def exists(self, path):
        """Is there such a file?"""
        return (self.root / path.lstrip("/")).exists()

    def owner(self, path):
        """(user name, permissions) of a file."""
        return tuple(self.run("stat", "-c", "%U %a", path).split())

    def close(self):
        """Removes it."""
        shutil.rmtree(self.directory, ignore_errors=True)


class Service:
    """A program that runs in a place, confined as an operator would have it: another user, an immutable root directory except
    for `writable`, only the system calls in `system_calls`, and a network without any other machine in it."""

    def __init__(self, place, command, user, writable=(), system_calls=None, environment=None):
        self.place = place
        self.log = place.directory / "service.log"
        options = ["--user", user]
        for path in writable:
            options += ["--writable", path]
        if system_calls is not None:
            listed = place.directory / "system-calls"
            listed.write_text("\n".join(system_calls), encoding="ascii")
            options += ["--system-calls", str(listed)]
        for name, value in (environment or {}).items():
            options += ["--environment", f"{name}={value}"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "--net", sys.executable, str(CONFINE), *options, str(place.root),
                                             *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={})

    def said(self):
        """All that it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def run(self, *command, code=0):
        """Runs a command where the service runs: same files, same network, same user."""
        pid = str(self.process.pid)
        user = f"{self._status('Uid')}:{self._status('Gid')}"
        done = subprocess.run(["nsenter", "--target", pid, "--net", "--mount", "/usr/sbin/chroot", f"--userspec={user}", str(self.place.root),
                               *map(str, command)], capture_output=True, text=True, check=False, timeout=120,
                              env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        assert code is None or done.returncode == code, f"{command}: {done}\n{self.said()}"
        return done.stdout if code is not None else done

    def _status(self, key):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(key + ":"):
                return line.split()[1]
        raise AssertionError(key)

    def wait_until_it_says(self, text):
        """Waits for a line of its log."""
        def look():
            assert self.process.poll() is None, f"ended with {self.process.returncode}\n{self.said()}"
            assert text in self.said(), self.said()
            return True

        wait_until(look, f"it says '{text}'", PATIENCE_S)

    def stop(self):
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def close(self):
        """Ends it however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
