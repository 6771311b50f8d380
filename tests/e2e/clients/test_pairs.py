# SPDX-License-Identifier: Apache-2.0
"""A job made in any language runs in any other, and its result comes back as it was."""
import base64

import pytest
from agent import CLIENTS, TEST_S

from harness import api
from harness.wait import SOON_S, wait_until

VALUES = {
    "integers of 64 bits": [9223372036854775807, -9223372036854775808, 9007199254740993, 0, -1],
    "fractions": [0.1, -2.5, 1e-7, 123456.789],
    "Unicode": {"text": "Grüße, 世界 \U0001F30D", "ключ": "значение", "escapes": "\" \\ / \b \f \n \r \t \u0001 \u2028", "empty": ""},
    "nested data": {"a": [{"b": [[], {}, [None, True, False]], "c": {"d": {"e": [1, "two", 3.5]}}}], "": "an empty key"},
    "a text": "not an object",
    "a number": 9223372036854775807,
    "nothing": None,
}
BYTES = bytes(range(256)) + b"{\"looks\": \"like JSON\"}\n\x00\xff"


PAIRS = [(producer, worker, ("nng", "grpc")[(i + j) % 2]) for i, producer in enumerate(CLIENTS) for j, worker in enumerate(CLIENTS)]


@pytest.mark.timeout(TEST_S)
@pytest.mark.parametrize("producer, worker, transport", PAIRS)
def test_pair(producer, worker, transport, server, agents, queue):
    producing = agents.shared(producer, transport, server.target)
    working = agents.take(worker, transport, server.target)
    try:
        working.call("worker_start", queues={queue: 1}, concurrency=4)
        wait_until(lambda: [w for w in server.client.ListWorkers(queue=queue).workers if w.state == api.WorkerState.ACTIVE],
                   "a worker is attached", 2 * SOON_S)
        values_survive(producing, queue)
        bytes_survive(producing, queue)
        errors_are_understood(producing, queue)
        results_go_on_to_the_next_step(producing, queue)
    except BaseException:
        working.kill()
        raise
    agents.give_back(working)


def values_survive(producing, queue):
    jobs = {name: producing.call("create", task="echo", queue=queue, payload={"json": value})["id"] for name, value in VALUES.items()}
    for name, value in VALUES.items():
        ended = producing.call("wait", id=jobs[name], timeout=60, timeout_s=90)
        assert ended["state"] == "succeeded", f"{name}: {ended}"
        # Null is as good as nothing.
        assert (ended.get("payload") or {"json": None}) == {"json": value}, name
        assert (ended.get("result") or {"json": None}) == {"json": value}, name


def bytes_survive(producing, queue):
    data = base64.b64encode(BYTES).decode("ascii")
    job = producing.call("create", task="bytes", queue=queue, payload={"data": data})
    ended = producing.call("wait", id=job["id"], timeout=60, timeout_s=90)
    assert ended["state"] == "succeeded", ended
    assert ended["result"] == {"data": data}


def errors_are_understood(producing, queue):
    job = producing.call("create", task="permanent", queue=queue, payload={"json": {"message": "zu spät ⏰"}})
    ended = producing.call("wait", id=job["id"], timeout=60, timeout_s=90)
    assert ended["state"] == "failed" and ended["attempts"] == 1, ended
    assert "zu spät ⏰" in ended["error"]["message"]


def results_go_on_to_the_next_step(producing, queue):
    steps = [{"task": "echo", "queue": queue, "payload": {"json": {"n": 9007199254740993}}},
             {"task": "previous", "queue": queue, "wants_previous_result": True}]
    chain = producing.call("chain_create", steps=steps)
    ended = producing.call("chain_wait", id=chain["id"], timeout=60, timeout_s=90)
    assert ended["state"] == "succeeded", ended
    assert ended["result"] == {"json": {"previous": {"n": 9007199254740993}}}
