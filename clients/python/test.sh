#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tests the Python client: static rules, unit tests, end-to-end tests against the real millraced, once more with the oldest dependencies.
# MILLRACE_BIN tells where the programs are (default: build/bin). Exit code 77: Python is missing or too old.
set -uo pipefail

cd "$(dirname "$0")" || exit 1
venv=$(tools/venv.sh test runtime test app) || exit $?
oldest=$(tools/venv.sh oldest oldest test) || exit $?
MILLRACE_BIN=$(cd "${MILLRACE_BIN:-../../build/bin}" && pwd) || exit 1
export MILLRACE_BIN PYTHONPATH=$PWD/src PATH=$venv/bin:$PATH
failed=()

run() {
  echo "== python: $1"
  "${@:2}" || failed+=("$1")
}

# pytest_in <environment> <arguments…>. With CI=true a skipped test is a failure.
pytest_in() {
  local report
  report=$(mktemp)
  "$1/bin/python" -m pytest -q -ra -p no:cacheprovider --junitxml "$report" "${@:2}" || return 1
  if [ "${CI:-}" = true ] && ! grep -q 'skipped="0"' "$report"; then
    echo "tests were skipped, which CI=true forbids"
    return 1
  fi
}

# The wheel has what people need of it, and the command works from it.
wheel() {
  local work
  work=$(mktemp -d)
  "$venv/bin/python" -m build --wheel --no-isolation --outdir "$work" . >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
  "$venv/bin/python" - "$work"/*.whl <<'CHECK' || return 1
import sys, zipfile
names = zipfile.ZipFile(sys.argv[1]).namelist()
wanted = ["millrace/py.typed", "millrace/proto/service_config.json", "millrace/proto/v1/job_service_pb2.pyi", "millrace/jobs/__init__.py"]
missing = [name for name in wanted if name not in names]
sys.exit(f"the wheel lacks {missing}" if missing else 0)
CHECK
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$work/site" "$work"/*.whl &&
    PYTHONPATH=$work/site "$work/site/bin/millrace-worker" --version &&
    rm -rf "$work"
}

run "generated code" ./generate.sh --check
run "ruff" ruff check --quiet .
run "format" ruff format --check --quiet .
run "mypy --strict" mypy
run "wheel" wheel
run "tests" pytest_in "$venv" tests examples -n 4 --dist loadfile
run "tests with the oldest dependencies" pytest_in "$oldest" tests/unit tests/e2e -n 4 -k "not reload"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
