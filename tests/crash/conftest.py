# SPDX-License-Identifier: Apache-2.0
"""Crash tests: the real programs, killed. Run: pytest tests/crash"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

from harness.fixtures import *  # noqa: E402,F401,F403
