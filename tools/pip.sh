#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the bin directory of a Python environment below build/tools that has one package: tools/pip.sh <package> <version>. Makes it
# at first. 77: not to be had.
set -eu

tools=$(cd "$(dirname "$0")/.." && pwd)/build/tools
environment=$tools/$1-$2
if [ ! -e "$environment/complete" ]; then
  mkdir -p "$tools"
  rm -rf "$environment"
  if ! { /usr/bin/python3 -m venv "$environment" &&
    "$environment/bin/pip" install --quiet --disable-pip-version-check "$1==$2" && touch "$environment/complete"; } >"$tools/$1.log" 2>&1; then
    rm -rf "$environment"
    echo "SKIPPED what needs $1 $2: installing it failed (build/tools/$1.log)" >&2
    exit 77
  fi
fi
echo "$environment/bin"
