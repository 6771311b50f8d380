# SPDX-License-Identifier: Apache-2.0
"""What tests ask for. Each server of a test is stopped at its end and its store must check clean."""
import itertools

import pytest

from . import api
from .clock import Clock
from .server import Server
from .tools import ProcessWorker
from .wait import PATIENCE
from .worker import Worker

_numbers = itertools.count()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Puts the log of each server at hand under a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        arguments = getattr(item, "funcargs", {})
        servers = [value for value in arguments.values() if isinstance(value, Server)]
        servers += getattr(arguments.get("make_server"), "servers", [])
        for server in {id(server): server for server in servers}.values():
            report.sections.append((f"log of millraced, {server.directory.name}", server.log()[-6000:]))


def pytest_collection_modifyitems(items):
    """A test that hangs is a failure: five minutes, unless it says more. Long enough for what it waits for to say first what did not come."""
    for item in items:
        marker = item.get_closest_marker("timeout")
        item.add_marker(pytest.mark.timeout((marker.args[0] if marker else 300) * PATIENCE), append=False)


@pytest.fixture
def make_server(tmp_path):
    """Makes servers: make_server({"--flag": "value"}, clock=…)."""
    servers = []

    def make(flags=None, clock=None, environment=None, start=True):
        server = Server(tmp_path / f"server-{len(servers)}", flags, clock, environment)
        server.directory.mkdir()
        servers.append(server)
        return server.start() if start else server

    make.servers = servers
    yield make
    failures = []
    for server in servers:
        try:
            server.finish()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def server(make_server):
    """A server of the test's own."""
    return make_server()


@pytest.fixture
def client(server):
    """Calls to it."""
    return server.client


@pytest.fixture(scope="module")
def module_server(tmp_path_factory):
    """A server that the tests of a module share, for those that only look at answers."""
    shared = Server(tmp_path_factory.mktemp("shared"))
    yield shared.start()
    shared.finish()


@pytest.fixture
def shared(module_server):
    """The module's server; it must have survived the test."""
    if not module_server.is_alive():
        module_server.start()
    yield module_server
    assert module_server.is_alive(), f"millraced died\n{module_server.log()}"


@pytest.fixture
def queue():
    """A queue name that no other test uses."""
    return f"q{next(_numbers)}-{api.new_id()[:8]}"


@pytest.fixture
def make_worker():
    """Makes raw workers that are closed at the end. One that connects is given its share of jobs from when it is returned."""
    workers = []

    def make(server, *arguments, connect=True, **options):
        worker = Worker(server, *arguments, connect=connect, **options)
        workers.append(worker)
        return worker.wait_attached() if connect else worker

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def clock(tmp_path):
    """A wall clock to shift."""
    return Clock(tmp_path)


@pytest.fixture
def timed_server(make_server, clock):
    """A server whose wall clock is `clock`."""
    return make_server(clock=clock)


@pytest.fixture
def make_process_worker(tmp_path):
    """Makes `millrace worker run` processes that are stopped at the end."""
    workers = []

    def make(server, handlers, *flags, **options):
        worker = ProcessWorker(server, tmp_path / f"worker-{len(workers)}", handlers, *flags, **options)
        workers.append(worker)
        return worker.start()

    yield make
    for worker in workers:
        worker.__exit__()
