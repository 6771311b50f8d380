# SPDX-License-Identifier: Apache-2.0
"""What tests ask for."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from harness import CLIENT, Millraced, WorkerProcess
from millrace import Client

_numbers = itertools.count()


@pytest.fixture(scope="session")
def millraced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millraced]:
    """The server that all tests share. It takes a worker for lost after two seconds of silence."""
    flags = ("--session-timeout", "2s", "--reconnect-grace", "1s", "--heartbeat", "500ms")
    server = Millraced(tmp_path_factory.mktemp("millraced"), *flags).start()
    yield server
    server.stop()


@pytest.fixture
def address(millraced: Millraced, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MILLRACE_ADDRESS", millraced.address)
    return millraced.address


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with Client() as client:
        yield client


@pytest.fixture
def queue() -> str:
    """A queue name that no other test uses."""
    return f"q{next(_numbers)}-{os.getpid()}"


@pytest.fixture
def start_worker(address: str, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts `millrace-worker` with the tasks of tests/tasks.py."""
    workers: list[WorkerProcess] = []

    def start(*flags: str, app: str = "tasks", **environment: str) -> WorkerProcess:
        command = [sys.executable, "-m", "millrace.worker.cli", "--app", app, *flags]
        environment = {"PYTHONPATH": os.pathsep.join([str(CLIENT / "src"), str(CLIENT / "tests")]), **environment}
        worker = WorkerProcess(command, tmp_path / f"worker-{len(workers)}.log", environment)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
