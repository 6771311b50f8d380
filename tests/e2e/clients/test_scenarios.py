# SPDX-License-Identifier: Apache-2.0
"""Every scenario with every client over both transports: as it stands, and with the server or the worker killed in its middle."""
import itertools

import pytest
from agent import CLIENTS, TEST_S
from scenario import Play, load_all

from harness.wait import SANITIZED

TRANSPORTS = ("nng", "grpc")
VICTIMS = ("server", "worker")
# Scenarios that one client plays before the next has its turn: long enough to make use of the agents that it started.
TURN = 14
# What waits while the server dies tries again for a second: one that was built with a sanitizer needs longer to come back.
WAITS_THROUGH = {("server_killed", None), ("wait_timeout", "server")}


def plays():
    """scenario-client-transport; and scenario-client-transport-kill-victim, over one transport for each victim in turn. Clients take
    turns, so that those that mostly compute share the machine with those that mostly wait, and not with each other."""
    scenarios = list(enumerate(load_all()))
    for transport, first, client in itertools.product(TRANSPORTS, range(0, len(scenarios), TURN), CLIENTS):
        for number, scenario in scenarios[first : first + TURN]:
            if scenario.only and client not in scenario.only:
                continue
            here = [victim for victim in scenario.may_die if TRANSPORTS[(number + VICTIMS.index(victim)) % 2] == transport]
            for killed in (None, *here):
                name = f"{scenario.name}-{client}-{transport}" + (f"-kill-{killed}" if killed else "")
                yield pytest.param(scenario, client, transport, killed, id=name)


@pytest.mark.timeout(TEST_S)
@pytest.mark.parametrize("scenario, client, transport, killed", plays())
def test_scenario(scenario, client, transport, killed, server, agents):
    if SANITIZED and (scenario.name, killed) in WAITS_THROUGH:
        pytest.skip("built with a sanitizer, a server needs longer to start than calls try again")
    options = scenario.client_options
    producer = agents.start(client, transport, server.target, options) if options else agents.shared(client, transport, server.target)
    try:
        Play(scenario, server, producer, agents, killed).run()
    finally:
        if options:
            producer.kill()
