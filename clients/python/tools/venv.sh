#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes a virtual environment under build/python and prints its path: venv.sh <name> [python]. It holds what requirements/<name>.txt pins,
# and is made anew when that file changes. Several may ask at the same time. Exit code 77: there is no Python that is new enough.
set -euo pipefail

cd "$(dirname "$0")/.."
name=$1
python=${2:-${PYTHON:-python3}}
root=$(cd ../.. && pwd)/build/python
if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "the Python client needs Python 3.11 or later with venv" >&2
  exit 77
fi

mkdir -p "$root"
exec 9>"$root/$name.lock"
flock 9
if ! cmp -s "requirements/$name.txt" "$root/$name/requirements.txt"; then
  rm -rf "${root:?}/$name"
  "$python" -m venv "$root/$name"
  "$root/$name/bin/pip" install --quiet --disable-pip-version-check -r "requirements/$name.txt" >&2
  cp "requirements/$name.txt" "$root/$name/requirements.txt"
fi
echo "$root/$name"
