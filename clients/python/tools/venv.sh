#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes a virtual environment under build/python and prints its path: venv.sh <name> [<requirements> …]. It holds what
# requirements/<requirements>.txt pin (those named like the environment, unless told otherwise), and is made anew when they change.
# Several may ask at the same time. PYTHON chooses the interpreter. Exit code 77: there is none that is new enough.
set -euo pipefail

cd "$(dirname "$0")/.."
name=$1
shift
python=${PYTHON:-python3}
root=$(cd ../.. && pwd)/build/python
if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "the Python client needs Python 3.11 or later with venv" >&2
  exit 77
fi

files=()
for file in "${@:-$name}"; do
  files+=("requirements/$file.txt")
done
mkdir -p "$root"
exec 9>"$root/$name.lock"
flock 9
wanted=$("$python" --version && cat "${files[@]}")
if [ "$wanted" != "$(cat "$root/$name/made-of" 2>/dev/null)" ]; then
  rm -rf "${root:?}/$name"
  "$python" -m venv "$root/$name"
  "$root/$name/bin/pip" install --quiet --disable-pip-version-check "${files[@]/#/-r}" >&2
  printf '%s\n' "$wanted" >"$root/$name/made-of"
fi
echo "$root/$name"
