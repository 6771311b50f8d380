# SPDX-License-Identifier: Apache-2.0
"""One server and one producer for many tests: each test has queues of its own."""
import types

import pytest
from agent import Agent, AgentError, MissingToolchain, program

from harness.server import Server


# Long enough for a worker on a busy machine to come back after a restart; short enough for the scenario that is silent for longer.
SESSION_TIMEOUT = {"--session-timeout": "5s"}
# Idle agents of one client, kept for the next tests: a scenario has three workers at most.
IDLE_MAX = 3
# A worker with nothing to do stops at once. One with a deaf handler would take all of its grace: to end it is quicker.
STOPS_S = 2.0
# What an agent of no particular kind was made for.
PLAIN = types.MappingProxyType({"open": {}})


@pytest.fixture(scope="session")
def session_server(tmp_path_factory):
    """The server that the tests of this process share. Some kill it in their middle; its store must check clean at the end."""
    server = Server(tmp_path_factory.mktemp("server"), SESSION_TIMEOUT)
    yield server.start()
    server.finish()


@pytest.fixture
def server(session_server):
    """The shared server, up."""
    if not session_server.is_alive():
        session_server.start()
    yield session_server
    assert session_server.is_alive(), f"millraced died\n{session_server.log()}"


class Agents:
    """Agents of the tests of this process. To start one is most of what a test costs, so the producer, and each worker's agent whose
    worker has stopped, stay for the next test, if that has the same client and transport."""

    def __init__(self, directory):
        self._directory = directory
        self._shared = None
        self._idle = []  # (agent, what it was made for)
        self._missing = {}
        self._started = 0

    def start(self, client, transport, address, options=None, environment=None):
        """A fresh agent; skips the test where the toolchain is missing."""
        if client in self._missing:
            pytest.skip(self._missing[client])
        if not program(client).exists():
            pytest.skip(f"there is no {program(client)}")
        self._started += 1
        log = self._directory / f"{client}-{transport}-{self._started}.log"
        try:
            return Agent(client, transport, address, log, options, environment)
        except MissingToolchain as missing:
            self._missing[client] = f"{client}: {missing}"
            pytest.skip(self._missing[client])

    def shared(self, client, transport, address):
        """The agent that tests of this client share."""
        agent = self._shared
        if agent and agent.is_alive() and (agent.client, agent.transport) == (client, transport):
            return agent
        self.end()
        self._shared = self.start(client, transport, address)
        return self._shared

    def take(self, client, transport, address, made_for=PLAIN):
        """An agent for a worker: one that is idle, or a fresh one. `made_for` is all that an agent can't be told twice."""
        for number, (agent, its) in enumerate(self._idle):
            if (agent.client, agent.transport, its) == (client, transport, made_for) and agent.is_alive():
                return self._idle.pop(number)[0]
        if len(self._idle) >= IDLE_MAX or any((agent.client, agent.transport) != (client, transport) for agent, _ in self._idle):
            self._end_idle()
        return self.start(client, transport, address, made_for["open"])

    def give_back(self, agent, made_for=PLAIN):
        """Stops its worker and keeps it for another, unless it is gone, or has something under way that does not end."""
        if not agent.is_alive():
            agent.kill()
            return
        try:
            agent.call("worker_stop", timeout_s=STOPS_S)
            self._idle.append((agent, made_for))
        except (AgentError, AssertionError):
            agent.kill()

    def _end_idle(self):
        for agent, _ in self._idle:
            agent.kill()
        self._idle = []

    def end(self):
        """Ends all."""
        self._end_idle()
        if self._shared:
            self._shared.kill()
        self._shared = None


@pytest.fixture(scope="session")
def agents(tmp_path_factory):
    """Producers that are kept between tests."""
    made = Agents(tmp_path_factory.mktemp("agents"))
    yield made
    made.end()
