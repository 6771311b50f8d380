#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs buf, the linter of .proto files, at the version that we pin, installing it below build/tools at first. 77: not to be had.
set -eu

version=1.75.0
tools=$(cd "$(dirname "$0")/.." && pwd)/build/tools
buf=$tools/buf-$version/bin/buf
if [ ! -x "$buf" ]; then
  mkdir -p "$tools"
  if ! { /usr/bin/python3 -m venv "$tools/buf-$version" &&
    "$tools/buf-$version/bin/pip" install --quiet --disable-pip-version-check "buf-bin==$version"; } >"$tools/buf.log" 2>&1; then
    rm -rf "$tools/buf-$version"
    echo "SKIPPED proto lint: needs buf $version, and installing it failed (build/tools/buf.log)"
    exit 77
  fi
fi
exec "$buf" "$@"
