# SPDX-License-Identifier: Apache-2.0
"""Millrace: durable background jobs.

`Client` creates jobs and looks after them, `@task` makes a function a handler, `Worker` (or the command `millrace-worker`) runs handlers.
`millrace.sync` is the client for code without an event loop, `millrace.testing` a fake server for tests.
"""

from typing import TYPE_CHECKING, Any

from millrace import errors, types
from millrace._version import VERSION
from millrace.context import JobContext, StopReason, current_job
from millrace.errors import *  # noqa: F403
from millrace.payload import Codec, Payload
from millrace.registry import Middleware, Registry, Task, TaskPolicy, default_registry, task
from millrace.types import *  # noqa: F403
from millrace.worker.options import WorkerOptions

if TYPE_CHECKING:
    from millrace.client import Client
    from millrace.worker import Worker

__version__ = VERSION
__all__ = [
    "Client",
    "Codec",
    "JobContext",
    "Middleware",
    "Payload",
    "Registry",
    "StopReason",
    "Task",
    "TaskPolicy",
    "Worker",
    "WorkerOptions",
    "__version__",
    "current_job",
    "default_registry",
    "task",
    *errors.__all__,
    *types.__all__,
]


def __getattr__(name: str) -> Any:
    """What needs gRPC is imported when it is asked for, so that a process that only runs handlers starts quickly."""
    if name == "Client":
        from millrace.client import Client

        return Client
    if name == "Worker":
        from millrace.worker import Worker

        return Worker
    raise AttributeError(f"module 'millrace' has no attribute {name!r}")
