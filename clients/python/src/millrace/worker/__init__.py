# SPDX-License-Identifier: Apache-2.0
"""Runs handlers: `Worker`, or the command `millrace-worker`."""

from typing import TYPE_CHECKING, Any

from millrace.worker.options import PoolKind, TransportKind, WorkerOptions

if TYPE_CHECKING:
    from millrace.worker._worker import Worker

__all__ = ["PoolKind", "TransportKind", "Worker", "WorkerOptions"]


def __getattr__(name: str) -> Any:
    """The worker itself is imported when it is asked for: the processes of its pool need only their own part."""
    if name == "Worker":
        from millrace.worker._worker import Worker

        return Worker
    raise AttributeError(name)
