# SPDX-License-Identifier: Apache-2.0
"""How a worker works."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from millrace.errors import InvalidArgument

__all__ = ["PoolKind", "TransportKind", "WorkerOptions", "parse_queues"]

PoolKind = Literal["processes", "threads", "asyncio"]
TransportKind = Literal["auto", "nng", "grpc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works; spans in seconds."""

    queues: Mapping[str, int] = field(default_factory=lambda: {"default": 1})
    """Queue names and their weights against each other within one priority."""
    concurrency: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Jobs at a time."""
    prefetch: int = 0
    """Deliveries held ready beyond that: faster with very short jobs, and unfair with long ones."""
    pool: PoolKind = "processes"
    transport: TransportKind = "auto"
    """`auto`: nng, and gRPC when the worker port can't be reached."""
    stop_grace: float = 30.0
    """How long running jobs may go on after SIGTERM."""
    terminate_grace: float = 5.0
    """How long a handler has to obey a terminate, before its process is killed (or, with threads, this one exits with 75)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the worker; `millrace worker list` shows them."""
    url: str | None = None
    """Where the worker port is, as ws://host:port, when the server's own word does not reach; also MILLRACE_WORKER_URL."""

    def __post_init__(self) -> None:
        if not self.queues:
            raise InvalidArgument("a worker needs at least one queue", field="queues")
        for name, low, high in (("concurrency", 1, 10_000), ("prefetch", 0, 10_000)):
            if not low <= getattr(self, name) <= high:
                raise InvalidArgument(f"{name} must be {low} to {high}, not {getattr(self, name)}", field=name)
        if self.pool not in ("processes", "threads", "asyncio"):
            raise InvalidArgument(f"pool is {self.pool!r}; it can be processes, threads or asyncio", field="pool")
        if self.transport not in ("auto", "nng", "grpc"):
            raise InvalidArgument(f"transport is {self.transport!r}; it can be auto, nng or grpc", field="transport")


def parse_queues(text: str | Iterable[str]) -> dict[str, int]:
    """`default:5,critical:10` as names and weights; a weight left out is 1."""
    queues: dict[str, int] = {}
    for part in text.split(",") if isinstance(text, str) else text:
        name, _, weight = part.strip().rpartition(":") if ":" in part else (part.strip(), "", "1")
        if not name or not weight.isdigit() or not 1 <= int(weight) <= 1000:
            raise InvalidArgument(f"{part!r} is not a queue with a weight from 1 to 1000, such as default:5", field="queues")
        queues[name] = int(weight)
    return queues
