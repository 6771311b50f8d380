# SPDX-License-Identifier: Apache-2.0
"""The worker as a program sees it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from millrace._channel import Target
from millrace.payload import Codec
from millrace.registry import Registry, default_registry
from millrace.worker.options import WorkerOptions

__all__ = ["Worker"]


class Worker:
    """Runs the handlers of a registry for one server."""

    def __init__(
        self,
        apps: Sequence[str] = (),
        *,
        registry: Registry = default_registry,
        options: WorkerOptions | None = None,
        address: str | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.apps = tuple(apps)
        self.registry = registry
        self.options = options or WorkerOptions()
        self._target = Target.of(address, token, ca, certificate)
        self._codec = codec
