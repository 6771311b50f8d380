#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything about the Go client: style, generated code, tests against the millraced in MILLRACE_BIN (default: build/bin), with the
# oldest and the newest libraries, and as a module. Exit code 77: no Go, or too old a one.
set -uo pipefail

cd "$(dirname "$0")" || exit 1
./toolchain.sh || exit $?
export MILLRACE_BIN=${MILLRACE_BIN:-$PWD/../../build/bin}
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.7.0
failed=()

# run <name> <command…>
run() {
  local name=$1
  shift
  echo "-- $name"
  "$@" || failed+=("$name")
}

formatted() {
  local files
  files=$(gofmt -l .)
  [ -z "$files" ] || { echo "gofmt would change: $files" && return 1; }
}

# in_each <command…>: in each module.
in_each() {
  "$@" && (cd millraceotel && "$@") && (cd examples/outbox && "$@")
}

run "format" formatted
run "generated code" ./generate.sh --check
run "go vet" in_each go vet ./...
run "staticcheck" in_each go run "$staticcheck" ./...
run "tests, oldest libraries" in_each go test -race -timeout 600s ./...
# The newest libraries may want a newer Go than the oldest do.
if newest=$(GOTOOLCHAIN=local go list -modfile=go.newest.mod -m 2>&1); then
  run "tests, newest libraries" go test -modfile=go.newest.mod -timeout 600s . ./millracetest
elif [ "${CI:-}" = true ]; then
  echo "$newest"
  failed+=("newest libraries: skipped, which CI=true forbids")
fi
run "as a module" ./module_test.sh

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed:"
  printf '  %s\n' "${failed[@]}"
  exit 1
fi
