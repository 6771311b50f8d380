#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Starts the agent for the scenarios (tests/e2e/scenarios/README.md): agent.sh --transport nng|grpc
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=$("$here/tools/venv.sh" runtime)
export PYTHONPATH=$here/src:$here/agent
exec "$venv/bin/python" "$here/agent/agent.py" "$@"
