#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Says whether JDK 17 or newer and Maven are here: exit code 77 if they are not.
set -euo pipefail

if ! command -v mvn >/dev/null || ! command -v javac >/dev/null; then
  echo "the Java client needs a JDK (17 or newer) and Maven" >&2
  exit 77
fi
version=$(javac -version 2>&1 | sed -E 's/^javac ([0-9]+).*/\1/')
if [ "$version" -lt 17 ]; then
  echo "the Java client needs a JDK of version 17 or newer, not $version" >&2
  exit 77
fi
