#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the static rules: tools/check.sh <build directory>. All of them run, even if one fails; with CI=true a skip is a failure.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
build=$1
jobs=$(nproc)
passed=0
failed=()

run() {
  local name=$1 code=0 start=$SECONDS
  shift
  "$@" || code=$?
  if [ $code -eq 77 ] && [ "${CI:-}" != true ]; then
    return
  fi
  if [ $code -eq 0 ]; then
    passed=$((passed + 1))
    echo "ok      $name ($((SECONDS - start)) s)"
  else
    failed+=("$name")
    echo "FAILED  $name"
  fi
}

format() {
  tools/sources.sh | xargs -r clang-format-14 --dry-run --Werror
}

analyse() {
  local sources
  mapfile -t sources < <(tools/sources.sh c)
  cppcheck --enable=warning,performance,portability --inline-suppr --std=c11 --quiet --error-exitcode=1 -j "$jobs" \
    --library=gtk --suppressions-list=tools/cppcheck.txt -D_GNU_SOURCE -I service -I . "${sources[@]}"
}

tidy() {
  local log=$build/tidy.log
  if ! run-clang-tidy-14 -quiet -p "$build" -j "$jobs" "^$PWD/(service|store|clients|tests)/" >"$log" 2>&1; then
    sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E 'warning:|error:' | sort -u
    return 1
  fi
}

scripts() {
  git ls-files -co --exclude-standard | while read -r file; do
    [ -f "$file" ] && head -c 64 "$file" | grep -qaE '^#!.*\b(ba)?sh\b' && printf '%s\n' "$file"
  done | xargs -r shellcheck
}

proto_breaking() {
  local release
  release=$(git describe --tags --abbrev=0 2>/dev/null) || return 0
  tools/buf.sh breaking proto --against ".git#tag=$release,subdir=proto"
}

run "format" format
run "layers" tools/layers.py
run "source rules" tools/rules.py
run "scripts" scripts
run "proto lint" tools/buf.sh lint proto
run "proto breaking" proto_breaking
run "prometheus" tools/prometheus.py
run "unit and Dockerfile" tools/deploy.sh
run "helm chart" tools/helm.sh
run "cppcheck" analyse
run "clang-tidy" tidy

echo "check: $passed passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
