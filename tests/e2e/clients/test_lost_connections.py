# SPDX-License-Identifier: Apache-2.0
"""A connection that breaks in the middle of a call is not the application's concern: clients try again, workers join again."""
import pytest
from agent import CLIENTS, TEST_S, AgentError
from lossy import LossyProxy

from harness import api
from harness.server import Server
from harness.wait import PATIENCE, SOON_S, wait_until

pytestmark = pytest.mark.timeout(TEST_S)

FOR_EVER = 1_000_000
# More than gRPC tries by itself.
MANY = 7
# Three of them are near the largest request that clients send.
LARGE_BYTES = 1_000_000
# Clients promise 30.
NOTICED_S = 45 * PATIENCE


@pytest.fixture
def proxy(server):
    lossy = LossyProxy(server.target)
    yield lossy
    lossy.close()


@pytest.fixture
def start(agents, proxy):
    """Starts an agent behind the proxy."""
    started = []

    def start_one(client, transport="nng"):
        started.append(agents.start(client, transport, proxy.target))
        return started[-1]

    yield start_one
    for agent in started:
        agent.kill()


@pytest.mark.parametrize("client", CLIENTS)
def test_calls_are_tried_again(client, start, proxy, queue):
    agent = start(client)
    job = {"task": "echo", "queue": queue}
    proxy.lose("CreateJob", "CreateJobs", "GetJob", "CreateChain", "CreateBatch")
    created = agent.call("create", **job)
    assert not created["existing"]
    assert agent.call("get", id=created["id"])["state"] == "pending"
    # A large request is kept, too: gRPC by itself keeps a quarter of a MiB.
    large = {**job, "payload": {"json": "x" * LARGE_BYTES}}
    proxy.lose("CreateJobs")
    outcomes = agent.call("create_many", mode="bulk", jobs=[large] * 3)["outcomes"]
    assert [outcome["existing"] for outcome in outcomes] == [False] * 3
    assert proxy.has_lost("CreateJobs")
    assert len(agent.call("chain_create", steps=[job, job])["job_ids"]) == 2
    assert agent.call("batch_create", items=[job], seal=True)["total"] == 1
    assert agent.call("queue_get", name=queue)["counts"]["pending"] == 6


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wait_goes_on(client, start, proxy, queue):
    agent = start(client)
    created = agent.call("create", task="echo", queue=queue)
    waiting = agent.send("wait", id=created["id"], timeout=60)
    proxy.cut("WaitJob", lambda request: request.timeout.seconds > 1)
    proxy.cut("WaitJob", lambda request: request.timeout.seconds > 1)
    agent.call("cancel", id=created["id"])
    assert waiting.result()["state"] == "cancelled"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_stays_away_is_unavailable(client, start, proxy):
    agent = start(client)
    proxy.lose("GetJob", "WatchJobs", times=FOR_EVER)
    with pytest.raises(AgentError) as refused:
        agent.call("get", id=api.new_id())
    assert refused.value.error["kind"] == "unavailable"
    assert "the connection to" in refused.value.error["message"] and "was lost" in refused.value.error["message"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_falls_silent_is_unavailable(client, agents, tmp_path):
    server = Server(tmp_path).start()
    agent = None
    try:
        agent = agents.start(client, "nng", server.target)
        created = agent.call("create", task="echo")
        watching = agent.send("watch", id=created["id"], until="succeeded", timeout=3 * NOTICED_S)
        assert watching.event()["state"] == "pending"
        server.suspend()
        with pytest.raises(AgentError) as lost:
            watching.result(NOTICED_S)
        assert lost.value.error["kind"] == "unavailable"
    finally:
        if agent:
            agent.kill()
        server.finish()


@pytest.mark.parametrize("transport", ["nng", "grpc"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_registers_and_joins_all_the_same(client, transport, start, proxy, server, queue):
    proxy.lose("Register", times=MANY)
    if transport == "grpc":
        proxy.lose("Attach")
    job = server.client.create("echo", queue=queue)
    start(client, transport).call("worker_start", queues={queue: 1}, concurrency=1)
    wait_until(lambda: proxy.has_lost("Register"), "the worker has tried often enough", 3 * SOON_S)
    server.wait_for_state(job.id, api.JobState.SUCCEEDED, timeout_s=3 * SOON_S)
    if transport == "grpc":
        proxy.cut("Attach")
        after = server.client.create("echo", queue=queue)
        server.wait_for_state(after.id, api.JobState.SUCCEEDED, timeout_s=3 * SOON_S)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_goes_on_behind_a_message_whose_jobs_were_taken_back(client, start, proxy, server, queue):
    start(client, "grpc").call("worker_start", queues={queue: 1}, concurrency=5)
    first = server.client.create("echo", queue=queue)
    server.wait_for_state(first.id, api.JobState.SUCCEEDED, timeout_s=3 * SOON_S)
    has_swallowed = proxy.swallow("Attach", lambda answer: answer.deliveries.deliveries)
    taken_back = server.client.create("echo", queue=queue, attempt_timeout=api.seconds(0.2), retry_policy=api.RetryPolicy(max_attempts=1))
    wait_until(has_swallowed, "its delivery is on its way")
    server.wait_for_state(taken_back.id, api.JobState.FAILED)
    proxy.cut("Attach")
    after = server.client.create("echo", queue=queue)
    server.wait_for_state(after.id, api.JobState.SUCCEEDED, timeout_s=3 * SOON_S)
