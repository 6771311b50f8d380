#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Replays the simulation: tools/sim.sh <build directory> <seed> <operations>.
set -eu
if [ ! -x "$1/bin/sim" ]; then
  echo "sim: this version has no simulation yet" >&2
  exit 1
fi
exec "$1/bin/sim" --seed "$2" --ops "$3"
