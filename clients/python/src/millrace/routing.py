# SPDX-License-Identifier: Apache-2.0
"""Routing rules: which queue a task's jobs go to when nobody says."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

__all__ = ["Routes"]


class Routes:
    """Patterns of task names to queues, as in `{"fraud_*": "fraud", "report.*": "slow"}`. The first that matches counts."""

    def __init__(self, rules: Mapping[str, str] | None = None) -> None:
        self._rules = [(re.compile(fnmatch.translate(pattern)), queue) for pattern, queue in (rules or {}).items()]
        self._known: dict[str, str | None] = {}

    def queue_for(self, task: str) -> str | None:
        """The queue for a task; None: no rule matches."""
        if not self._rules:
            return None
        if task not in self._known:
            if len(self._known) >= 10_000:  # task names are few; this only bounds a program that makes them up
                self._known.clear()
            self._known[task] = next((queue for pattern, queue in self._rules if pattern.match(task)), None)
        return self._known[task]
