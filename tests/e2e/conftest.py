# SPDX-License-Identifier: Apache-2.0
"""End-to-end tests: the real programs, seen from outside. Run: pytest -n 4 tests/e2e"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness.fixtures import *  # noqa: E402,F401,F403
