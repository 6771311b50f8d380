# SPDX-License-Identifier: Apache-2.0
"""Starts the worker anew when the code changes; for development."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

log: Final = logging.getLogger("millrace.worker")
_LOOK_S: Final = 0.5
_NOT_OURS: Final = frozenset({"__pycache__", "node_modules", "site-packages"})


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_OURS]
        yield from (Path(parent, name) for name in names if name.endswith(".py"))


def snapshot(folder: Path) -> dict[Path, int]:
    """When each Python file below was last changed."""
    times: dict[Path, int] = {}
    for file in _files(folder):
        try:
            times[file] = file.stat().st_mtime_ns
        except OSError:  # it went away meanwhile
            continue
    return times


def run_with_reload(arguments: Sequence[str]) -> int:
    """Runs the worker as a child with the same arguments, until a signal; returns the child's exit code."""
    stop = threading.Event()

    def on_signal(number: int, stack: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    before = snapshot(Path.cwd())
    while True:
        # A session of its own: a Ctrl-C reaches it through us alone, once.
        child = subprocess.Popen([sys.executable, "-m", "millrace.worker.cli", *arguments], start_new_session=True)
        while not stop.wait(_LOOK_S):
            now = snapshot(Path.cwd())
            if now != before:
                changed = {file for file, _ in now.items() ^ before.items()}
                log.info("changed: %s", ", ".join(sorted(os.path.relpath(file) for file in changed)))
                before = now
                break
        if child.poll() is None:
            child.terminate()
        code = child.wait()
        if stop.is_set():
            return code
