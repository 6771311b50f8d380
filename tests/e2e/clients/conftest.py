# SPDX-License-Identifier: Apache-2.0
"""One server and one producer for many tests: each test has queues of its own."""
import os

import pytest
from agent import Agent, MissingToolchain, program

from harness.server import Server


@pytest.fixture(scope="session")
def session_server(tmp_path_factory):
    """The server that the tests of this process share. Some kill it in their middle; its store must check clean at the end."""
    server = Server(tmp_path_factory.mktemp("server"))
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
    """Agents of the tests of this process: the last few stay for the next test."""

    def __init__(self, directory, kept):
        self._directory = directory
        self._kept = kept
        self._agents = {}
        self._missing = {}
        self._started = 0

    def start(self, client, transport, address, options=None):
        """A fresh agent; skips the test where the toolchain is missing."""
        if client in self._missing:
            pytest.skip(self._missing[client])
        if not program(client).exists():
            pytest.skip(f"there is no {program(client)}")
        self._started += 1
        log = self._directory / f"{client}-{transport}-{self._started}.log"
        try:
            return Agent(client, transport, address, log, options)
        except MissingToolchain as missing:
            self._missing[client] = f"{client}: {missing}"
            pytest.skip(self._missing[client])

    def shared(self, client, transport, address):
        """The agent that tests of this client share."""
        key = (client, transport)
        agent = self._agents.pop(key, None)
        if agent is None or not agent.is_alive():
            agent = self.start(client, transport, address)
        self._agents[key] = agent
        while len(self._agents) > self._kept:
            self._agents.pop(next(iter(self._agents))).kill()
        return agent

    def end(self):
        """Ends them all."""
        for agent in self._agents.values():
            agent.kill()


@pytest.fixture(scope="session")
def agents(tmp_path_factory):
    """Producers that are kept between tests."""
    made = Agents(tmp_path_factory.mktemp("agents"), kept=int(os.environ.get("MILLRACE_AGENTS_KEPT", "2")))
    yield made
    made.end()
