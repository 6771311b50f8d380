#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the path of grpcurl at the version that we pin, building it below build/tools at first (needs Go >= 1.18). 77: not to be had.
set -eu

version=v1.8.9
tools=$(cd "$(dirname "$0")/.." && pwd)/build/tools/grpcurl-$version
if [ ! -x "$tools/grpcurl" ]; then
  if ! command -v go >/dev/null 2>&1; then
    echo "SKIPPED grpcurl: needs Go >= 1.18" >&2
    exit 77
  fi
  mkdir -p "$tools"
  if ! GOBIN=$tools GOFLAGS=-modcacherw go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version" >"$tools/install.log" 2>&1; then
    echo "SKIPPED grpcurl: installing it failed ($tools/install.log)" >&2
    exit 77
  fi
fi
echo "$tools/grpcurl"
