#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the scenarios' agent: agent.sh --transport nng|grpc. Exit code 77: no JDK 17 or no Maven.
exec "$(dirname "$0")/run.sh" io.millrace.e2e.Agent -XX:TieredStopAtLevel=1 -- "$@"
