#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Exit code 77, with the reason, when there is no Go, or one that is older than go.mod asks for.
set -euo pipefail

wanted=$(awk '$1 == "go" { print $2 }' "$(dirname "$0")/go.mod")
if ! have=$(go env GOVERSION 2>/dev/null); then
  echo "skipped: there is no go; clients/go needs Go $wanted or newer" >&2
  exit 77
fi
if [ "$(printf '%s\n' "$wanted" "${have#go}" | sort -V | head -n 1)" != "$wanted" ]; then
  echo "skipped: $have is older than Go $wanted, which clients/go needs" >&2
  exit 77
fi
