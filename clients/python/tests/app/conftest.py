# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a service with workers, a Celery fleet, and a `stack` that stands for each backend in turn."""

import itertools
import os
import pathlib
import shutil
import sys
from collections.abc import AsyncIterator, Iterator

import contract_millrace  # noqa: F401  # registers the handlers for the memory backend
import pytest
from processes import Program, start_celery, start_millraced, start_redis, start_worker
from stacks import Stack

from millrace import Client, sync
from millrace.jobs import JobManager, use_backend
from millrace.jobs.memory import MemoryQueueBackend
from millrace.jobs.service import MillraceQueueBackend

_numbers = itertools.count()
# The interface is known to applications under the names that the example has.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "shop"))


@pytest.fixture(scope="session", autouse=True)
def calls_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Where the document's handlers note their calls, in whatever process they run."""
    folder = tmp_path_factory.mktemp("calls")
    os.environ["DOCUMENT_CALLS"] = str(folder)
    yield folder
    del os.environ["DOCUMENT_CALLS"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service."""
    program, address = start_millraced(tmp_path_factory.mktemp("millraced"))
    yield address
    assert program.stop() == 0, program.log


def _worker(folder: pathlib.Path, address: str, queues: str, concurrency: int) -> Program:
    program = start_worker(folder, address, "contract_millrace", queues, concurrency)
    names = {part.partition(":")[0] for part in queues.split(",")}
    with sync.Client(address) as client:
        program.wait_for(lambda: any(set(worker.queues) == names for worker in client.workers.list()))
    return program


@pytest.fixture(scope="session")
def millrace_fleet(service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a worker; its address."""
    program = _worker(tmp_path_factory.mktemp("worker"), service, "default:5,other:1", 3)
    yield service
    assert program.stop() == 0, program.log


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    program, port = start_redis(tmp_path_factory.mktemp("redis"))
    yield port
    program.stop()


@pytest.fixture(scope="session")
def celery_environment(redis: int) -> dict[str, str]:
    return {"CELERY_BROKER_URL": f"redis://127.0.0.1:{redis}/1", "CELERY_RESULT_BACKEND": f"redis://127.0.0.1:{redis}/2"}


@pytest.fixture(scope="session")
def celery_fleet(celery_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Redis with a Celery worker and beat; the environment that leads there."""
    program = start_celery(tmp_path_factory.mktemp("celery"), celery_environment, "default,other", 3, beat=True)
    yield celery_environment
    program.stop()


@pytest.fixture(params=["memory", "millrace", "celery"])
async def stack(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """Each backend in turn, with real workers behind it."""
    if request.param == "memory":
        jobs = JobManager(MemoryQueueBackend())
    elif request.param == "millrace":
        jobs = JobManager(MillraceQueueBackend(Client(request.getfixturevalue("millrace_fleet"))))
    else:
        from millrace.jobs.celery import CeleryQueueBackend

        for name, value in request.getfixturevalue("celery_fleet").items():
            monkeypatch.setenv(name, value)
        jobs = JobManager(CeleryQueueBackend())
    yield Stack(request.param, jobs, tmp_path, f"idle-{next(_numbers)}")
    await jobs.close()
    if isinstance(jobs.backend, MillraceQueueBackend):
        await jobs.backend.client.close()


@pytest.fixture
def single_slot(request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A queue whose one worker runs one job at a time."""
    folder = tmp_path_factory.mktemp("single")
    queue = f"single-{next(_numbers)}"
    if stack.name == "memory":
        yield queue
        return
    if stack.name == "millrace":
        program = _worker(folder, request.getfixturevalue("service"), queue, 1)
    else:
        program = start_celery(folder, request.getfixturevalue("celery_environment"), queue, 1, beat=False)
    yield queue
    program.stop()


@pytest.fixture
def fresh_process() -> Iterator[None]:
    """What QUEUE_BACKEND says holds anew, before the test and after it."""
    use_backend(None)
    yield
    use_backend(None)
