#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs buf, the linter of .proto files, at the version that we pin. 77: not to be had.
set -eu

bin=$("$(dirname "$0")/pip.sh" buf-bin 1.75.0)
exec "$bin/buf" "$@"
