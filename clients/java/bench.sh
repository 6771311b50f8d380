#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Measures the client against the server of MILLRACE_ADDRESS, which should be a fresh one: bench.sh [seconds for each figure].
exec "$(dirname "$0")/run.sh" io.millrace.e2e.Bench -- "$@"
