#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks rules that no other tool knows: licence lines, banned functions, links of the documents, lengths (as a warning)."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
SOURCES = {".c", ".h", ".py", ".sh", ".proto", ".cmake", ".go", ".java"}
BANNED = re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|alloca)\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
errors = []


def fail(path, number, text):
    errors.append(f"{path}:{number}: {text}")


def check_source(path, text):
    lines = text.splitlines()
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
        fail(path, 1, "no SPDX line")
    if path.parts[0] == "tools":
        return
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            fail(path, number, "unfinished")
        if path.suffix in {".c", ".h"} and path.parts[0] != "tests" and BANNED.search(line):
            fail(path, number, "banned function (no limit, no error, or hidden state)")


def check_lengths(path, text):
    lines = text.splitlines()
    if len(lines) > FILE_LINES_MAX:
        print(f"warning: {path}: {len(lines)} lines (aim at {FILE_LINES_MAX})")
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{" or (re.match(r"[A-Za-z_].*\{$", line) and "(" in line and "=" not in line):
            start = number
        elif line.startswith("}") and start:
            if number - start > FUNCTION_LINES_MAX:
                print(f"warning: {path}:{start}: a function of {number - start} lines (aim at {FUNCTION_LINES_MAX})")
            start = None


def anchors(file):
    found = set()
    for heading in re.findall(r"^#+ (.+)$", file.read_text(), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(slug)
    return found


def check_links(path, text):
    prose = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.S)
    for number, line in enumerate(prose.splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (ROOT / path).parent / name if name else ROOT / path
            if not file.exists():
                fail(path, number, f"link to {target}: no such file")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                fail(path, number, f"link to {target}: no such heading")


def main():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in sorted(listed.stdout.splitlines()):
        path = pathlib.Path(name)
        if not (ROOT / path).is_file():
            continue
        if path.suffix in SOURCES or path.name == "CMakeLists.txt":
            text = (ROOT / path).read_text()
            check_source(path, text)
            if path.suffix == ".c":
                check_lengths(path, text)
        elif path.suffix == ".md":
            check_links(path, (ROOT / path).read_text())
    print("\n".join(errors), end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
