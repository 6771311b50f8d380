#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The agent of this client for tests/e2e/scenarios: builds it if need be, then becomes it. Exit code 77: no Go, or too old a one.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
"$here/toolchain.sh" || exit $?

# A build that changes nothing takes a moment and leaves the program as it is; several may start at once.
out=$here/../../build/clients/go
mkdir -p "$out"
(
  flock 9
  cd "$here"
  if [ ! -x "$out/agent" ] || [ -n "$(find . \( -name '*.go' -o -name service_config.json \) -newer "$out/agent" -print -quit)" ]; then
    go build -o "$out/agent.new" ./internal/agent >&2
    mv "$out/agent.new" "$out/agent"
  fi
) 9>"$out/lock"
exec "$out/agent" "$@"
