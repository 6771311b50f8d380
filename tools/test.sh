#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs every test: tools/test.sh <build directory>. A client whose toolchain is missing is skipped; with CI=true a skip is a failure.
# Each part ends with its runner's own summary; all parts run, even if one fails, and the names of the tests that failed end it all.
set -uo pipefail

# ThreadSanitizer of this generation can't stand much address space randomisation.
if [ "${PRESET:-}" = tsan ] && [ "${MILLRACE_NO_ASLR:-}" != 1 ] && setarch -R true 2>/dev/null; then
  MILLRACE_NO_ASLR=1 exec setarch -R "$0" "$@"
fi

cd "$(dirname "$0")/.." || exit 1
build=$PWD/$1
jobs=$(nproc)
export MILLRACE_BIN=$build/bin
# What sanitizers report goes into files, so that nothing is missed of a process whose end nobody looks at.
reports=$build/reports
rm -rf "$reports" && mkdir -p "$reports" || exit 1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1}:log_path=$reports/asan
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$PWD/tools/lsan.supp:print_suppressions=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}:log_path=$reports/ubsan
# The libraries are not built with the sanitizer: it can't see how they synchronise.
export TSAN_OPTIONS=${TSAN_OPTIONS:-ignore_noninstrumented_modules=1}:log_path=$reports/tsan
sanitized=false
case ${PRESET:-release} in
  asan | tsan)
    sanitized=true
    # It watches over our C alone.
    export MILLRACE_CLIENTS=c
    ;;
esac
details=$build/failed.txt
: >"$details"
failed=()
skipped=()

# run <name> <command…>: 77 stands for "skipped, and said why".
run() {
  local name=$1 code=0
  shift
  echo "== $name"
  "$@" || code=$?
  if [ $code -eq 77 ]; then
    skipped+=("$name")
  elif [ $code -ne 0 ]; then
    failed+=("$name")
  fi
}

c_tests() {
  ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --timeout 300 && return
  cat "$build/Testing/Temporary/LastTestsFailed.log" >>"$details"
  return 1
}

# python_tests <folder> <at a time> [<option of pytest>…]. With CI=true a skipped test fails the run, as a skipped client does; under
# a sanitizer some are skipped on purpose.
python_tests() {
  local folder=$1 report=$build/${1//\//-}.xml
  local code=0
  /usr/bin/python3 -m pytest "$folder" -q -ra -n "$2" "${@:3}" --timeout 600 -p no:cacheprovider --junitxml "$report" || code=1
  if [ "${CI:-}" = true ] && ! $sanitized && ! grep -q 'skipped="0"' "$report"; then
    echo "tests were skipped, which CI=true forbids"
    code=1
  fi
  [ $code -eq 0 ] || not_passed_in "$report" >>"$details"
  return $code
}

# not_passed_in <report>: a line for each test of pytest's that failed or was skipped.
not_passed_in() {
  /usr/bin/python3 - "$1" <<'EOF'
import sys
from xml.etree import ElementTree

for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
    for trouble in case.iter():
        if trouble.tag in ("failure", "error", "skipped"):
            said = " ".join(trouble.get("message", "").split())
            print(f"{trouble.tag}: {case.get('classname')}::{case.get('name')}: {said[:300]}")
EOF
}

# Each client's own tests, all at the same time, as they wait a lot; what they say comes one after the other.
client_tests() {
  local script log
  local -A pids
  trap 'trap - TERM && kill 0' INT # which programs in the background don't hear of
  for script in clients/*/test.sh; do
    log=$build/${script//\//-}.log
    "$script" >"$log" 2>&1 &
    pids[$script]=$!
  done
  for script in clients/*/test.sh; do
    run "client: $(basename "$(dirname "$script")")" end_of "${pids[$script]}" "$build/${script//\//-}.log"
  done
  trap - INT
}

# end_of <process> <log>: what it said, and its exit code.
end_of() {
  local code=0
  wait "$1" || code=$?
  cat "$2"
  [ $code -eq 0 ] || [ $code -eq 77 ] || tail -n 12 "$2" >>"$details"
  return "$code"
}

sanitizer_reports() {
  local files=("$reports"/*)
  [ ! -e "${files[0]}" ] || { tail -n +1 -- "${files[@]}" && return 1; }
}

if grpcurl=$(tools/grpcurl.sh); then
  PATH=$(dirname "$grpcurl"):$PATH
fi

run "C" c_tests
# These mostly wait, so more run at a time than there are cores.
run "tests/e2e" python_tests tests/e2e $((2 * jobs)) --ignore tests/e2e/clients
# One set of scenarios for all clients, which mostly wait, too.
run "scenarios" python_tests tests/e2e/clients $((4 * jobs))
# These load the machine and measure: one at a time.
run "tests/crash" python_tests tests/crash 0
# These install and build images of what is shipped: the release build.
if [ "${PRESET:-release}" = release ]; then
  run "tests/deploy" python_tests tests/deploy 0
fi
if $sanitized; then
  echo "The clients that are not written in C are left out: a sanitizer sees nothing of them."
  run "reports of the sanitizer" sanitizer_reports
else
  client_tests
fi

if [ "${CI:-}" = true ] && [ ${#skipped[@]} -gt 0 ]; then
  echo "skipped, which CI=true forbids: ${skipped[*]}"
  exit 1
fi
if [ ${#failed[@]} -gt 0 ]; then
  cat "$details"
  echo "failed: ${failed[*]}"
  exit 1
fi
