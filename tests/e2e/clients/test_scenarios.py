# SPDX-License-Identifier: Apache-2.0
"""Every scenario with every client over both transports: as it stands, and with the server or the worker killed in its middle."""
import pytest
from agent import CLIENTS, TEST_S
from scenario import Play, load_all

from harness.wait import SANITIZED

TRANSPORTS = ("nng", "grpc")
VICTIMS = ("server", "worker")
# What waits while the server dies tries again for a second: one that was built with a sanitizer needs longer to come back.
WAITS_THROUGH = {("server_killed", None), ("wait_timeout", "server")}


def plays():
    """scenario-client-transport; and scenario-client-transport-kill-victim, over one transport for each victim in turn."""
    for client in CLIENTS:
        for transport in TRANSPORTS:
            for number, scenario in enumerate(load_all()):
                if scenario.only and client not in scenario.only:
                    continue
                here = [victim for victim in scenario.may_die if TRANSPORTS[(number + VICTIMS.index(victim)) % 2] == transport]
                for killed in (None, *here):
                    name = f"{scenario.name}-{client}-{transport}" + (f"-kill-{killed}" if killed else "")
                    yield pytest.param(scenario, client, transport, killed, id=name)


@pytest.mark.timeout(TEST_S)
@pytest.mark.parametrize("scenario, client, transport, killed", plays())
def test_scenario(scenario, client, transport, killed, server, agents, tmp_path):
    if SANITIZED and (scenario.name, killed) in WAITS_THROUGH:
        pytest.skip("built with a sanitizer, a server needs longer to start than calls try again")
    options = scenario.client_options
    producer = agents.start(client, transport, server.target, options) if options else agents.shared(client, transport, server.target)
    try:
        Play(scenario, server, producer, tmp_path, killed).run()
    finally:
        if options:
            producer.kill()
