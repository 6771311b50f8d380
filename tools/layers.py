#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks who may include whom (docs/architecture.md). Prints each include that goes against an arrow; exit 1 if there is one."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOOR_FILES = re.search(r"set\(DOOR ([^)]*)\)", (ROOT / "store/CMakeLists.txt").read_text())[1].split()
DOOR = {"backend.h"} | {stem + suffix for stem in (name[:-2] for name in DOOR_FILES) for suffix in (".c", ".h")}
OFFLINE_TOOLS = {"check.c", "repair.c", "dump.c", "rows.c", "rows.h"}

# Which of our own folders each part may include, itself besides.
OWN = {
    "core": {"millrace"},
    "door": {"core/error.h"},
    "typed": {"core", "store", "millrace"},
    "engine": {"core", "store", "millrace"},
    "rpc": {"core", "store", "engine", "workers/hub.h", "workers/guard.h", "millrace"},  # the hub for Attach, the guard to hang up
    "workers": {"core", "store", "engine", "millrace"},
    "http": {"core", "store", "engine", "workers/guard.h", "millrace"},  # the guard for its figures
    "main": {"core", "store", "engine", "rpc", "workers", "http", "millrace"},
    "client": {"millrace"},
    "offline": {"millrace", "core", "store"},
}
# Who may see the headers of each library that only one part hides.
LIBRARIES = {
    "rocksdb/": lambda part, name: name == "rocks.c" and part == "door",
    "grpc/": lambda part, name: part in {"rpc", "client", "offline"},
    "nng/": lambda part, name: part in {"workers", "http", "client", "offline"},
}
FOLDERS = ("core", "store", "engine", "rpc", "workers", "http")


def part_of(path):
    """The part a file belongs to; None: tests, which may include anything."""
    if path.parts[0] == "store":
        return "door" if path.name in DOOR else "typed"
    if path.parts[0] == "service":
        return path.parts[1] if len(path.parts) > 2 else "main"
    if path.parts[:2] == ("clients", "c"):
        if "tests" in path.parts:
            return None
        return "offline" if path.name in OFFLINE_TOOLS else "client"
    return None


def is_allowed(path, part, include):
    for prefix, may in LIBRARIES.items():
        if include.startswith(prefix):
            return may(part, path.name)
    folder = include.split("/")[0]
    if folder not in FOLDERS and not include.startswith("millrace/"):
        return True  # a library, or a file beside this one
    own_folder = "store" if part in ("door", "typed") else part
    if part == "door" and folder == "store":
        return include.split("/")[1] in DOOR
    return folder == own_folder or folder in OWN[part] or include in OWN[part]


def main():
    wrong = 0
    for folder in ("service", "store", "clients/c"):
        for file in sorted((ROOT / folder).rglob("*.[ch]")):
            path = file.relative_to(ROOT)
            part = part_of(path)
            if part is None:
                continue
            for number, line in enumerate(file.read_text().splitlines(), 1):
                found = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
                if found and not is_allowed(path, part, found[1]):
                    print(f"{path}:{number}: '{part}' may not include {found[1]}")
                    wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
