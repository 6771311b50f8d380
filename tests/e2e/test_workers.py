# SPDX-License-Identifier: Apache-2.0
"""Workers that die, stall, are slow, lose the wire or talk nonsense; and the server stopped under them."""
import shutil
import signal
import threading
import time

import pytest

from harness import api
from harness.api import AttemptOutcome, BackoffKind, CommandKind, JobState, WaitingReason, WorkerState, fails
from harness.server import HEARTBEAT_S, RECONNECT_GRACE_S, SESSION_TIMEOUT_S
from harness.tools import Relay
from harness.wait import SOON_S, never, wait_until
from harness.worker import HOLD, Worker, echo

FAST = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(0.1), jitter=api.DoubleValue(value=0))
SLOW = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(600))
# No heartbeat comes by itself, and no session ends by itself, while a test looks.
CALM = {"--heartbeat": "60s", "--session-timeout": "10m", "--reconnect-grace": "10m"}
BOTH = pytest.mark.parametrize("transport", ["ws", "grpc"])


def create(server, queue, **fields):
    """A job that comes back soon after a loss."""
    return server.client.create(queue=queue, retry_policy=FAST, **fields)


def session(client, session_id):
    """The session as listed, or None."""
    return next((w for w in client.ListWorkers(page_size=1000).workers if w.session_id == session_id), None)


# ---- registration ----

def test_a_session_as_it_is_listed(shared, make_worker, queue):
    worker = make_worker(shared, [(queue, 3)], tasks=["a", "b"], concurrency=7, labels={"zone": "eu"})
    registered = worker.registered
    assert (registered.scheme, registered.port, registered.host, registered.resumed) == ("ws", shared.ports["worker"], "", False)
    assert registered.jobs_path == f"/sessions/{worker.session_id}/jobs" and registered.reports_path == "/reports"
    assert api.unix(registered.heartbeat_interval) == HEARTBEAT_S
    assert api.unix(registered.session_timeout) == SESSION_TIMEOUT_S
    assert registered.limits.result_bytes_max == 1 << 20
    seen = session(shared.client, worker.session_id)
    assert seen.state == WorkerState.ACTIVE
    assert (seen.queues[0].name, seen.queues[0].weight, list(seen.tasks), seen.concurrency) == (queue, 3, ["a", "b"], 7)
    assert (seen.hostname, seen.pid, seen.sdk, dict(seen.labels)) == ("test", 1, "e2e", {"zone": "eu"})
    shared.client.create("a", queue=queue)
    worker.take()
    seen = session(shared.client, worker.session_id)
    assert (seen.running, seen.transport) == (1, "nng")
    assert [w.session_id for w in shared.client.ListWorkers(queue=queue).workers] == [worker.session_id]
    worker.close()
    wait_until(lambda: session(shared.client, worker.session_id) is None, "gone")


def test_sessions_are_listed_by_page(client, server, make_worker):
    ids = sorted(make_worker(server, connect=False).session_id for _ in range(5))
    first = client.ListWorkers(page_size=3)
    rest = client.ListWorkers(page_size=3, page_token=first.next_page_token)
    assert [w.session_id for w in (*first.workers, *rest.workers)] == ids
    assert {w.state for w in first.workers} == {WorkerState.DISCONNECTED}


@BOTH
def test_a_session_is_counted_on_from_its_first_heartbeat(make_server, make_worker, transport):
    """Before it, the server does not know what the worker holds, and deals it nothing: so it must not be shown as one that takes jobs."""
    server = make_server(CALM)
    client = server.client
    worker = make_worker(server, transport=transport, connect=False)
    worker.mute = True
    worker.connect()
    job = client.create()

    def connected():
        seen = session(client, worker.session_id)
        assert seen.state == WorkerState.DISCONNECTED
        return seen.transport

    assert wait_until(connected, "connected") == {"ws": "nng", "grpc": "grpc"}[transport]
    assert client.GetQueue(name="default").queue.workers == 0
    assert client.job(job.id).waiting_reason == WaitingReason.NO_WORKER_FOR_QUEUE
    worker.mute = False
    worker.beat()
    worker.wait_attached()
    assert session(client, worker.session_id).state == WorkerState.ACTIVE
    assert client.GetQueue(name="default").queue.workers == 1
    assert worker.take().job_id == job.id


def test_a_session_that_never_joins_ends(shared, make_worker, queue):
    worker = make_worker(shared, [queue], connect=False)
    wait_until(lambda: session(shared.client, worker.session_id) is None, "its time-out", SESSION_TIMEOUT_S + SOON_S)
    with fails("NOT_FOUND"):
        worker.resume()


def test_resume_and_not_found(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = create(shared, queue)
    delivery = worker.take()
    worker.cut()
    again = worker.resume()
    assert again.resumed and again.session_id == worker.session_id
    worker.token = again.session_token or worker.token
    worker.connect()
    worker.succeed(delivery)
    assert shared.client.job(job.id).deliveries == 1
    worker.token = "wrong"
    with fails("NOT_FOUND"):
        worker.resume()


@BOTH
def test_a_wrong_token_joins_nothing(shared, make_worker, queue, transport):
    mine = make_worker(shared, [queue], transport=transport)
    other = make_worker(shared, [queue + "-other"], transport=transport, connect=False)
    for token in ("wrong", "", "x" * 5000):
        try:
            other.connect(token or " ")
        except Exception:  # pylint: disable=broad-except
            continue  # refused at the handshake, which is as good
        assert other._pipe.closed.wait(SOON_S)  # pylint: disable=protected-access
    create(shared, queue + "-other")
    assert other.deliveries.empty()
    assert session(shared.client, other.session_id).state == WorkerState.DISCONNECTED
    job = create(shared, queue)
    mine.succeed(mine.take())
    assert shared.client.job(job.id).state == JobState.SUCCEEDED
    with fails("NOT_FOUND"):
        shared.client.Deregister(session_id=mine.session_id, session_token="wrong")
    assert session(shared.client, mine.session_id)


def knows_by_heartbeat(worker, delivery):
    """The server knows that the delivery has arrived: what is sent on one connection is taken in order."""
    worker.beat()
    worker.log(delivery, "got it")


def knows_by_start(worker, delivery):
    """The server knows that the handler runs."""
    worker.started(delivery)


@pytest.mark.parametrize("know", [knows_by_heartbeat, knows_by_start])
def test_what_a_worker_holds_when_it_deregisters_is_lost_at_once(make_server, make_worker, know):
    server = make_server(CALM)
    worker = make_worker(server)
    job = server.client.create(retry_policy=SLOW)
    know(worker, worker.take())
    server.client.Deregister(session_id=worker.session_id, session_token=worker.token)
    seen = server.client.job(job.id)
    assert (seen.state, seen.lost_count, seen.attempts) == (JobState.RETRYING, 1, 0)
    assert [a.outcome for a in seen.history] == [AttemptOutcome.LOST]
    wait_until(worker.is_closed, "its connections are closed")


def test_what_is_on_its_way_to_a_worker_that_deregisters_counts_for_nothing(make_server, make_worker):
    """It stopped taking jobs before it got them, so they have done it no harm and did not run."""
    server = make_server(CALM)
    client = server.client
    client.PauseQueue(name="default")
    ids = client.create_many([api.JobSpec(task="work", retry_policy=SLOW)] * 1200)  # more than are given back in a turn
    for _ in range(3):  # as many losses would end a job
        worker = make_worker(server, concurrency=1200)
        worker.swallow = True
        client.ResumeQueue(name="default")
        wait_until(lambda: client.counts("default") == {"running": 1200}, "all are dealt")
        client.PauseQueue(name="default")
        client.Deregister(session_id=worker.session_id, session_token=worker.token)
        wait_until(lambda: client.counts("default") == {"pending": 1200}, "all are given back")
    first, last = client.job(ids[0]), client.job(ids[-1])
    for job in (first, last):
        assert (job.deliveries, job.lost_count, job.attempts) == (3, 0, 0)
        assert [a.outcome for a in job.history] == [AttemptOutcome.RELEASED] * 3
    other = make_worker(server, concurrency=1)
    client.ResumeQueue(name="default")
    assert other.take().job_id == first.id  # at its old place
    client.PauseQueue(name="default")


def test_what_a_worker_held_before_a_restart_is_lost_when_it_deregisters(make_server, make_worker):
    """The server has not heard yet what arrived, so it takes it that all did."""
    server = make_server(CALM)
    worker = make_worker(server)
    job = server.client.create(retry_policy=SLOW)
    worker.take()
    server.restart()
    server.client.Deregister(session_id=worker.session_id, session_token=worker.token)
    seen = server.client.job(job.id)
    assert (seen.state, seen.lost_count) == (JobState.RETRYING, 1)


# ---- credit and messages ----

@BOTH
def test_never_more_out_than_concurrency(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], concurrency=3, transport=transport)
    shared.client.create_many([api.JobSpec(task="work", queue=queue)] * 10)
    taken = worker.take_many(3)
    never(lambda: not worker.deliveries.empty(), "more than three are out", 0.4)
    worker.succeed(taken.pop())
    worker.take()
    never(lambda: not worker.deliveries.empty(), "more than three are out", 0.3)


def test_prefetch_adds_to_concurrency(shared, make_worker, queue):
    worker = make_worker(shared, [queue], concurrency=2, prefetch=3)
    shared.client.create_many([api.JobSpec(task="work", queue=queue)] * 10)
    worker.take_many(5)
    never(lambda: not worker.deliveries.empty(), "more than five are out", 0.3)


@BOTH
def test_messages_hold_at_most_100_deliveries_and_1_mib(shared, make_worker, queue, transport):
    client = shared.client
    client.create_many([api.JobSpec(task="work", queue=queue) for _ in range(250)])
    client.create_many([api.JobSpec(task="work", queue=queue, payload=api.Payload(data=b"p" * 300_000)) for _ in range(10)])
    client.create_many([api.JobSpec(task="work", queue=queue, payload=api.Payload(data=b"p" * (2 << 20)))])
    worker = make_worker(shared, [queue], concurrency=1000, transport=transport)
    taken = worker.take_many(261)
    assert len({d.job_id for d in taken}) == 261
    messages = [m for m in worker.received if m.delivery_seq]
    assert [m.delivery_seq for m in messages] == list(range(1, len(messages) + 1))
    for message in messages:
        assert len(message.deliveries) <= 100
        assert message.ByteSize() <= 1 << 20 or len(message.deliveries) == 1


def test_big_previous_results_count_against_what_a_session_is_sent(server, make_worker):
    """Eighty steps at once, each with a megabyte of the step before: more than may wait for one connection."""
    client = server.client
    big = '"' + "x" * 1_000_000 + '"'
    client.PauseQueue(name="second")
    for _ in range(80):
        client.CreateChain(steps=[api.JobSpec(task="one", queue="first"),
                                  api.JobSpec(task="two", queue="second", wants_previous_result=True)])
    with make_worker(server, ["first"], concurrency=4) as first:
        for _ in range(80):
            first.succeed(first.take(), big)
    worker = make_worker(server, ["second"], concurrency=100)
    client.ResumeQueue(name="second")
    for _ in range(80):
        delivery = worker.take()
        assert len(delivery.previous_result.json) == len(big)
        worker.succeed(delivery)
    assert not worker.is_closed()
    for message in worker.received:
        assert message.ByteSize() <= 1 << 20 or len(message.deliveries) == 1


def test_a_fragmented_report_arrives_whole(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = create(shared, queue)
    delivery = worker.take()
    big = '"' + "f" * 900_000 + '"'
    event = api.Report(job_id=delivery.job_id, delivery=delivery.delivery, succeeded=api.Succeeded(result=api.json_payload(big)))
    data = api.Reports(report_seq=1, reports=[event]).SerializeToString()

    assert len(data) > 10 * worker.registered.limits.fragment_bytes_max
    worker.send_raw(data)
    assert shared.client.wait(job.id).result.json == big


def test_quiet_takes_no_more_and_drain_ends(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    first = create(shared, queue)
    delivery = worker.take()
    assert client.QuietWorker(session_id=worker.session_id).worker.state == WorkerState.QUIET
    worker.wait_for_command(CommandKind.QUIET)
    second = create(shared, queue)
    never(lambda: not worker.deliveries.empty(), "a quiet worker gets a job", 0.4)
    worker.succeed(delivery)
    assert client.job(first.id).state == JobState.SUCCEEDED
    client.QuietWorker(session_id=worker.session_id, drain=True)
    worker.wait_for_command(CommandKind.DRAIN)
    other = make_worker(shared, [queue])
    assert other.take().job_id == second.id
    with fails("NOT_FOUND"):
        client.QuietWorker(session_id=api.new_id())


# ---- killed ----

def test_killed_its_job_runs_elsewhere_after_grace_and_back_off(make_server, make_process_worker, make_worker):
    server = make_server({"--session-timeout": "10m"})  # which it does not wait for
    client = server.client
    broken = make_process_worker(server, {"work": "exec sleep 30\n"}).wait_attached(client)
    job = create(server, "default")
    server.wait_for_state(job.id, JobState.RUNNING)
    other = make_worker(server, handler=echo)
    begin = time.monotonic()
    broken.kill()
    ended = client.wait(job.id)
    assert time.monotonic() - begin >= RECONNECT_GRACE_S - 0.1
    assert (ended.state, ended.session_id, ended.deliveries, ended.lost_count) == (JobState.SUCCEEDED, other.session_id, 2, 1)
    assert [a.outcome for a in ended.history] == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]


def test_a_job_that_always_kills_its_worker_ends_worker_lost(server, make_process_worker):
    client = server.client
    job = create(server, "default", payload=api.json_payload('{"deadly": true}'))
    for _ in range(3):
        worker = make_process_worker(server, {"work": "kill -9 $PPID; sleep 5\n"})
        worker.process.wait(SOON_S)
    ended = client.wait(job.id)
    assert (ended.state, ended.error.type, ended.lost_count, ended.attempts, ended.deliveries) == (
        JobState.FAILED, "WORKER_LOST", 3, 0, 3)


@BOTH
def test_a_broken_connection_starts_the_grace(make_server, make_worker, transport):
    server = make_server({"--session-timeout": "10m"})
    worker = make_worker(server, transport=transport)
    job = server.client.create(retry_policy=SLOW)
    worker.take()
    begin = time.monotonic()
    worker.vanish()
    server.wait_for_state(job.id, JobState.RETRYING)
    assert time.monotonic() - begin >= RECONNECT_GRACE_S - 0.1
    assert session(server.client, worker.session_id) is None


# ---- slow ----

@BOTH
def test_slower_than_every_session_timeout_keeps_its_job(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], transport=transport)
    job = create(shared, queue)
    delivery = worker.take()
    never(lambda: shared.client.job(job.id).state != JobState.RUNNING, "it was taken away", 2 * SESSION_TIMEOUT_S)
    worker.succeed(delivery, '"late"')
    ended = shared.client.job(job.id)
    assert (ended.state, ended.deliveries, ended.result.json) == (JobState.SUCCEEDED, 1, '"late"')


@BOTH
def test_silence_ends_the_session(make_server, make_worker, transport):
    server = make_server({"--heartbeat": "5s", "--reconnect-grace": "10m"})  # so that nothing else ends it
    worker = make_worker(server, transport=transport)
    job = server.client.create(retry_policy=SLOW)
    delivery = worker.take()
    worker.mute = True
    begin = time.monotonic()
    worker.log(delivery, "the last that is heard of it")
    server.wait_for_state(job.id, JobState.RETRYING)
    assert time.monotonic() - begin >= SESSION_TIMEOUT_S - 0.1
    wait_until(worker.is_closed, "its connection is closed")
    with fails("NOT_FOUND"):
        worker.resume()


# ---- cut off ----

@BOTH
def test_a_connection_cut_for_one_second_costs_nothing(make_server, make_worker, transport):
    server = make_server({"--reconnect-grace": "5s"})
    worker = make_worker(server, concurrency=3, transport=transport)
    ids = server.client.create_many([api.JobSpec(task="work", retry_policy=FAST)] * 3)
    held = worker.take_many(3)
    worker.cut()
    worker.succeed(held[0], wait=False)  # ends while the wire is cut
    time.sleep(1)  # the cut itself
    worker.reconnect()
    for delivery in held[1:]:
        worker.succeed(delivery)
    for job_id in ids:
        job = server.client.wait(job_id)
        assert (job.state, job.deliveries, job.lost_count) == (JobState.SUCCEEDED, 1, 0)
    another = server.client.create()
    assert worker.take().job_id == another.id


def test_what_the_wire_swallowed_is_sent_again(make_server, make_worker):
    server = make_server({"--reconnect-grace": "5s"})
    worker = make_worker(server, concurrency=5)
    first = worker.server.client.create()
    held = [worker.take()]
    worker.swallow = True  # what comes now is lost with the connection
    ids = server.client.create_many([api.JobSpec(task="work", payload=api.json_payload(f"[{n}]")) for n in range(3)])
    for job_id in ids:
        server.wait_for_state(job_id, JobState.RUNNING)
    worker.cut()
    worker.swallow = False
    worker.reconnect()
    held += worker.take_many(3)
    assert {d.job_id: d.delivery for d in held} == {i: 1 for i in (first.id, *ids)}
    assert {d.payload.json for d in held[1:]} == {"[0]", "[1]", "[2]"}
    for delivery in held:
        worker.succeed(delivery)
    assert [server.client.job(i).lost_count for i in ids] == [0, 0, 0]


def test_a_report_whose_answer_was_lost_counts_once(make_server, make_worker):
    server = make_server({"--reconnect-grace": "5s"})
    worker = make_worker(server)
    job = server.client.create()
    delivery = worker.take()
    worker.swallow = True  # the acceptance does not arrive
    worker.succeed(delivery, '"once"', wait=False)
    server.wait_for_state(job.id, JobState.SUCCEEDED)
    worker.cut()
    worker.swallow = False
    worker.reconnect()  # sends it again
    wait_until(lambda: not worker.held, "it is accepted")
    ended = server.client.job(job.id)
    assert (ended.attempts, len(ended.history), ended.result.json) == (1, 1, '"once"')
    after = server.client.create()
    worker.succeed(worker.take())
    assert server.client.job(after.id).state == JobState.SUCCEEDED


def test_a_real_worker_lives_through_a_cut(make_server, make_process_worker):
    server = make_server({"--reconnect-grace": "5s"})
    client = server.client
    with Relay(server.ports["worker"]) as relay:
        make_process_worker(server, {"work": "sleep 1.5; echo '\"done\"'\n"},
                            environment_more={"MILLRACE_WORKER_URL": f"ws://127.0.0.1:{relay.port}"}).wait_attached(client)
        job = client.create()
        server.wait_for_state(job.id, JobState.RUNNING)
        relay.cut()
        ended = client.wait(job.id)
        assert (ended.state, ended.deliveries, ended.lost_count) == (JobState.SUCCEEDED, 1, 0)
        again = client.wait(client.create().id)
        assert again.deliveries == 1


# ---- swallowed, half-open ----

@BOTH
def test_deliveries_swallowed_by_a_broken_worker_are_noticed_at_once(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], handler=lambda _: HOLD, transport=transport)
    jobs = [create(shared, queue).id for _ in range(5)]
    lost = worker.take_many(5)
    other = make_worker(shared, [queue], handler=echo, transport=transport)
    for delivery in lost[:4]:  # the program forgot them; it goes on beating
        worker.held.pop((delivery.job_id, delivery.delivery))
    shared.client.QuietWorker(session_id=worker.session_id)
    for delivery in lost[:4]:
        ended = shared.client.wait(delivery.job_id)
        assert (ended.state, ended.session_id, ended.lost_count) == (JobState.SUCCEEDED, other.session_id, 1)
    kept = shared.client.job(lost[4].job_id)
    assert (kept.state, kept.lost_count) == (JobState.RUNNING, 0) and kept.id in jobs
    assert session(shared.client, worker.session_id)


def test_deliveries_swallowed_by_a_stopped_worker_run_elsewhere(server, make_process_worker, make_worker):
    client = server.client
    stopped = make_process_worker(server, {"work": "echo '\"first\"'\n"}, "--concurrency", "50").wait_attached(client)
    client.wait(client.create().id)  # nothing is sent to it before its first heartbeat
    stopped.signal(signal.SIGSTOP)
    ids = client.create_many([api.JobSpec(task="work", retry_policy=FAST)] * 50)
    for job_id in ids:
        assert client.job(job_id).state in (JobState.RUNNING, JobState.PENDING)
    other = make_worker(server, concurrency=100, handler=lambda _: '"second"')
    ended = [client.wait(job_id) for job_id in ids]
    assert all(j.state == JobState.SUCCEEDED and j.session_id == other.session_id for j in ended)
    assert any(j.lost_count == 1 for j in ended)
    # The stopped one wakes up, learns that its session is gone, and is of use again.
    stopped.signal(signal.SIGCONT)
    other.close()
    job = client.wait(client.create().id)
    assert job.result.json == '"first"'


def test_a_half_open_connection_is_replaced(make_server, make_worker):
    server = make_server({"--reconnect-grace": "5s", "--session-timeout": "10s"})
    with Relay(server.ports["worker"]) as relay:
        worker = make_worker(server, connect=False)
        worker.host = f"127.0.0.1:{relay.port}"
        worker.connect()
        first = server.client.create()
        delivery = worker.take()
        relay.stall()  # nobody is told
        relay.forget()
        old = worker._pipe  # pylint: disable=protected-access
        second = server.client.create()
        worker.connect()
        # What went into the dead connection comes again over the new one.
        assert worker.take().job_id == second.id
        worker.succeed(delivery)
        third = server.client.create()
        assert worker.take().job_id == third.id
        assert [server.client.job(j.id).lost_count for j in (first, second, third)] == [0, 0, 0]
        assert old is not worker._pipe  # pylint: disable=protected-access


@BOTH
def test_the_newest_connection_of_a_session_replaces_the_old_one(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], transport=transport)
    old = worker._pipe  # pylint: disable=protected-access
    worker.connect()
    assert old.closed.wait(SOON_S), "the old one stays open"
    never(worker.is_closed, "the new one was closed", 0.3)
    job = create(shared, queue)
    worker.succeed(worker.take())
    assert shared.client.job(job.id).deliveries == 1


def test_a_dead_connection_is_closed_when_pings_are_not_answered(make_server, make_worker):
    server = make_server({"--session-timeout": "30s"})
    worker = make_worker(server)

    # It beats, and echoes no ping: the way to it is broken, the way from it is not.
    async def deaf(_pipe, _data):
        pass

    worker._pipe._on_message = deaf  # pylint: disable=protected-access
    assert worker._pipe.closed.wait(3 * HEARTBEAT_S * 10 + SOON_S)  # pylint: disable=protected-access


# ---- reports that are wrong ----

def encoded(number, data):
    """A field of a message, with any bytes: what a proper library refuses to write."""
    length, out = len(data), bytes([number << 3 | 2])
    while length > 0x7F:
        out += bytes([(length & 0x7F) | 0x80])
        length >>= 7
    return out + bytes([length]) + data


@pytest.mark.parametrize("kind", ["error", "result"])
def test_invalid_utf8_ends_the_job_and_does_not_come_back(shared, make_worker, queue, kind):
    worker = make_worker(shared, [queue])
    job = shared.client.create(queue=queue, retry_policy=api.RetryPolicy(max_attempts=1))
    delivery = worker.take()
    if kind == "error":
        event = encoded(6, encoded(1, encoded(1, b"Bad\xff\xfeType") + encoded(2, b"caf\xe9 \xc3\x28")))  # failed.error
    else:
        event = encoded(5, encoded(1, encoded(2, b'"\xff\xfe"')))  # succeeded.result.json
    report = api.Report(job_id=job.id, delivery=delivery.delivery).SerializeToString() + event
    worker.send_raw(api.Reports(report_seq=1).SerializeToString() + encoded(2, report))
    worker.wait_accepted(1)
    ended = shared.client.job(job.id)
    if kind == "error":
        assert ended.state == JobState.FAILED
        assert ended.error.message.startswith("caf") and ended.error.type.startswith("Bad")
    else:
        assert ended.state == JobState.SUCCEEDED
        assert not ended.HasField("result") and "UTF-8" in ended.result_omitted_reason
    worker.held.clear()
    worker._report_seq = 1  # pylint: disable=protected-access
    after = create(shared, queue)
    worker.succeed(worker.take())
    assert shared.client.job(after.id).state == JobState.SUCCEEDED
    assert not worker.is_closed()


@BOTH
def test_an_oversize_result_ends_the_job_without_it(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], transport=transport)
    job = create(shared, queue)
    worker.succeed(worker.take(), '"' + "x" * (1 << 20) + '"')
    ended = shared.client.job(job.id)
    assert ended.state == JobState.SUCCEEDED and not ended.HasField("result")
    assert "1048576" in ended.result_omitted_reason or "1 MiB" in ended.result_omitted_reason
    after = create(shared, queue)
    worker.succeed(worker.take())
    assert shared.client.job(after.id).state == JobState.SUCCEEDED


def test_a_worker_may_leave_the_result_out_and_say_why(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = create(shared, queue)
    delivery = worker.take()
    worker.report(api.Report(job_id=job.id, delivery=delivery.delivery, succeeded=api.Succeeded(result_omitted_reason="3 MiB")))
    assert shared.client.job(job.id).result_omitted_reason == "3 MiB"


def test_long_error_texts_are_cut(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = create(shared, queue)
    worker.fail(worker.take(), "T" * 1000, "m" * 100_000, "ä" * 100_000, permanent=True)
    error = shared.client.job(job.id).error
    assert (len(error.type), len(error.message)) == (256, 4096)
    assert 16 * 1024 - 4 <= len(error.trace.encode()) <= 16 * 1024


@pytest.mark.parametrize("bad_json", ['{"unclosed": ', "[" * 100 + "]" * 100, "not json"], ids=["cut", "deep", "text"])
def test_a_result_that_is_no_json_is_left_out(shared, make_worker, queue, bad_json):
    worker = make_worker(shared, [queue])
    job = create(shared, queue)
    worker.succeed(worker.take(), bad_json)
    ended = shared.client.job(job.id)
    assert ended.state == JobState.SUCCEEDED and not ended.HasField("result") and ended.result_omitted_reason


@pytest.mark.parametrize("event", ["nothing", "unknown job", "bad id", "no event", "snooze for ever", "bad progress"])
def test_nonsense_about_a_delivery_hurts_nobody(shared, make_worker, queue, event):
    worker = make_worker(shared, [queue])
    job = create(shared, queue)
    delivery = worker.take()
    reports = {
        "nothing": [],
        "unknown job": [api.Report(job_id=api.new_id(), delivery=1, succeeded=api.Succeeded())],
        "bad id": [api.Report(job_id="no-id", delivery=1, succeeded=api.Succeeded())],
        "no event": [api.Report(job_id=job.id, delivery=1)],
        "snooze for ever": [api.Report(job_id=job.id, delivery=1, snoozed=api.Snoozed(delay=api.Duration(seconds=1 << 40)))],
        "bad progress": [api.Report(job_id=job.id, delivery=1, progress=api.Progress(fraction=float("nan"), message="x" * 10_000))],
    }[event]
    worker.report(*reports)
    seen = shared.client.job(job.id)
    if event == "snooze for ever":
        assert seen.state == JobState.SCHEDULED
        return
    assert seen.state == JobState.RUNNING
    worker.succeed(delivery)
    assert shared.client.job(job.id).state == JobState.SUCCEEDED


@pytest.mark.parametrize("transport, event", [("ws", "gap"), ("grpc", "gap"), ("ws", "garbage")])
def test_a_gap_or_garbage_closes_the_connection_and_costs_nothing(shared, make_worker, queue, event, transport):
    worker = make_worker(shared, [queue], transport=transport)
    job = create(shared, queue)
    delivery = worker.take()
    report = api.Report(job_id=job.id, delivery=1, failed=api.Failed(permanent=True))
    worker.send_raw(api.Reports(report_seq=7, reports=[report]).SerializeToString() if event == "gap" else b"\xff" * 100)
    wait_until(worker.is_closed, "closed")
    assert shared.client.job(job.id).state == JobState.RUNNING
    worker.reconnect()
    worker.succeed(delivery)
    ended = shared.client.job(job.id)
    assert (ended.state, ended.deliveries) == (JobState.SUCCEEDED, 1)


def test_a_server_set_back_to_a_checkpoint_takes_its_workers_anew(make_server, make_worker, tmp_path):
    """The worker has received more than the copy knows of: only a new session can help, and its jobs run elsewhere."""
    server = make_server({"--checkpoint-dir": str(tmp_path)})
    client = server.client
    worker = make_worker(server)
    client.Checkpoint(name="copy")
    client.create()
    worker.take()
    server.kill()
    shutil.rmtree(server.data)
    (tmp_path / "copy").rename(server.data)
    server.start()
    worker.connect()  # its first heartbeat tells

    def is_gone():
        try:
            worker.resume()
            return False
        except api.Failure as failure:
            return failure.code == "NOT_FOUND"

    wait_until(is_gone, "the session has ended")
    job = client.create()
    assert make_worker(server).take().job_id == job.id


def test_a_server_that_has_forgotten_reports_takes_its_worker_anew(make_server, make_worker, tmp_path):
    """The copy is from before a report that was accepted since: the worker will never send that one again."""
    server = make_server({"--checkpoint-dir": str(tmp_path)})
    client = server.client
    worker = make_worker(server)
    first, second = client.create(), client.create()
    deliveries = worker.take_many(2)
    client.Checkpoint(name="copy")
    worker.succeed(deliveries[0])
    server.kill()
    shutil.rmtree(server.data)
    (tmp_path / "copy").rename(server.data)
    server.start()
    for _ in range(2):  # a reconnect does not cure it
        worker.connect()
        worker.succeed(deliveries[1], wait=False)
        wait_until(worker.is_closed, "closed")
    with pytest.raises(api.Failure, match="NOT_FOUND"):
        worker.resume()
    other = make_worker(server, concurrency=2)
    assert {d.job_id for d in other.take_many(2)} == {first.id, second.id}


@BOTH
def test_a_repeat_is_dropped(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], transport=transport)
    job = create(shared, queue)
    delivery = worker.take()
    worker.report(api.Report(job_id=job.id, delivery=1, log=api.LogLines(lines=[api.LogLine(text="once")])))
    again = api.Reports(report_seq=1, reports=[api.Report(job_id=job.id, delivery=1, failed=api.Failed(permanent=True))])
    worker.send_raw(again.SerializeToString())
    worker.succeed(delivery)
    assert shared.client.job(job.id).state == JobState.SUCCEEDED
    assert shared.client.log(job.id) == ["once"]


@BOTH
def test_a_stale_report_is_told_lost(shared, make_worker, queue, transport):
    worker = make_worker(shared, [queue], transport=transport)
    job = create(shared, queue)
    delivery = worker.take()
    worker.held.pop((job.id, 1))
    worker.beat()  # lost to it
    again = worker.take()
    assert (again.job_id, again.delivery) == (job.id, 2)
    worker.succeed(delivery, '"stale"')
    command = worker.wait_for_command(CommandKind.LOST, job.id)
    assert command.delivery == 1
    assert shared.client.job(job.id).state == JobState.RUNNING
    worker.succeed(again, '"fresh"')
    assert shared.client.job(job.id).result.json == '"fresh"'


def test_nobody_reports_for_another_session(shared, make_worker, queue):
    worker = make_worker(shared, [queue], concurrency=1)
    job = create(shared, queue)
    delivery = worker.take()
    thief = make_worker(shared, [queue + "-other"])
    thief.succeed(delivery, '"stolen"')
    assert shared.client.job(job.id).state == JobState.RUNNING
    worker.succeed(delivery, '"mine"')
    assert shared.client.job(job.id).result.json == '"mine"'


def test_unheld_claims_change_nothing(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = create(shared, queue, delay=api.seconds(600))
    worker.held[(job.id, 1)] = None
    worker.held[(api.new_id(), 9)] = None
    worker.beat()
    after = create(shared, queue)
    delivery = worker.take()
    assert delivery.job_id == after.id
    assert shared.client.job(job.id).state == JobState.SCHEDULED


# ---- the server stops, restarts ----

@pytest.mark.timeout(180)
def test_a_server_stopped_for_20_seconds_loses_no_session(server, make_worker, make_process_worker):
    client = server.client
    make_process_worker(server, {"slow": "sleep 3; echo 1\n"}).wait_attached(client)
    workers = [make_worker(server, [f"q{n}"], transport="ws" if n else "grpc") for n in range(2)]
    ids = [client.create(queue=f"q{n}", retry_policy=FAST).id for n in range(2)]
    slow = client.create("slow")
    held = [w.take() for w in workers]
    server.wait_for_state(slow.id, JobState.RUNNING)
    server.suspend()
    time.sleep(20)  # three session time-outs
    server.resume()
    for worker, delivery in zip(workers, held):
        if worker.is_closed():
            worker.reconnect()  # a worker that heard nothing for so long dials again
        worker.succeed(delivery)
    for job_id in (*ids, slow.id):
        job = client.wait(job_id)
        assert (job.state, job.deliveries, job.lost_count) == (JobState.SUCCEEDED, 1, 0)
    assert {w.session_id for w in client.ListWorkers().workers} >= {w.session_id for w in workers}


@BOTH
def test_a_job_that_runs_through_a_restart_is_completed_not_repeated(server, make_worker, transport):
    client = server.client
    worker = make_worker(server, transport=transport)
    job = client.create(retry_policy=FAST)
    delivery = worker.take()
    server.kill()
    worker.succeed(delivery, '"through"', wait=False)  # ends while the server is down
    server.start()
    worker.reconnect()
    ended = client.wait(job.id)
    assert (ended.state, ended.deliveries, ended.result.json) == (JobState.SUCCEEDED, 1, '"through"')
    after = client.create()
    assert worker.take().job_id == after.id


def test_after_a_restart_numbers_go_on_and_nothing_comes_before_the_heartbeat(server, make_worker):
    client = server.client
    worker = make_worker(server, concurrency=5)
    for _ in range(3):
        client.create()
        worker.succeed(worker.take())
    client.create_many([api.JobSpec(task="work")] * 2)
    held = worker.take_many(2)
    before = worker.received_up_to
    server.restart()
    extra = client.create()
    worker.mute = True
    worker.reconnect()
    never(lambda: any(m.delivery_seq > before for m in worker.received), "sent before the heartbeat", 0.5)
    worker.mute = False
    worker.beat()
    assert worker.take().job_id == extra.id
    assert worker.received_up_to == before + 1
    for delivery in held:
        worker.succeed(delivery)
    assert all(client.job(d.job_id).deliveries == 1 for d in held)


def test_a_session_that_does_not_come_back_after_a_restart_ends(server, make_worker):
    client = server.client
    worker = make_worker(server)
    job = client.create(retry_policy=FAST)
    worker.take()
    server.kill()
    worker.cut()
    server.start()
    assert client.job(job.id).state == JobState.RUNNING  # it still may
    other = make_worker(server, handler=echo)
    ended = client.wait(job.id)
    assert (ended.session_id, ended.lost_count) == (other.session_id, 1)


def test_real_workers_come_back_after_a_restart(server, make_process_worker):
    client = server.client
    make_process_worker(server, {"work": "sleep 1; echo \"\\\"$MILLRACE_JOB_ID\\\"\"\n"}, "--concurrency", "4").wait_attached(client)
    ids = client.create_many([api.JobSpec(task="work", retry_policy=FAST)] * 4)
    for job_id in ids:
        server.wait_for_state(job_id, JobState.RUNNING)
    server.restart()
    for job_id in ids:
        job = client.wait(job_id)
        assert (job.state, job.deliveries, job.result.json) == (JobState.SUCCEEDED, 1, f'"{job_id}"')
    assert client.wait(client.create().id).state == JobState.SUCCEEDED


def test_a_graceful_stop_of_the_server_loses_nothing(server, make_worker):
    client = server.client
    worker = make_worker(server)
    job = client.create(retry_policy=FAST)
    delivery = worker.take()
    server.restart(kill=False)
    worker.reconnect()
    worker.succeed(delivery)
    assert client.job(job.id).deliveries == 1


# ---- many ----

@pytest.mark.timeout(180)
def test_many_workers_on_many_queues(server, make_worker):
    client = server.client
    workers = [make_worker(server, [f"q{n % 10}"], concurrency=5, handler=echo, transport="grpc" if n % 5 == 0 else "ws") for n in range(30)]
    ids = client.create_many([api.JobSpec(task=f"t{n % 7}", queue=f"q{n % 10}") for n in range(3000)])
    wait_until(lambda: sum(q.counts.succeeded for q in client.ListQueues().queues) == 3000, "all have run", 60)
    taken = sum((w.taken for w in workers), start=type(workers[0].taken)())
    assert set(taken) == set(ids) and set(taken.values()) == {1}
    assert all(sum(w.taken.values()) > 0 for w in workers)


def test_workers_come_and_go_under_load(server):
    client = server.client
    stop = threading.Event()
    failures = []

    def live():
        while not stop.is_set():
            try:
                worker = Worker(server, concurrency=20, handler=echo)
                time.sleep(0.3)
                worker.close()
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)
                return

    threads = [threading.Thread(target=live) for _ in range(3)]
    for thread in threads:
        thread.start()
    ids = client.create_many([api.JobSpec(task="work", retry_policy=api.RetryPolicy(
        kind=BackoffKind.CONSTANT, initial=api.seconds(0.05)))] * 3000)
    try:
        wait_until(lambda: client.counts("default").get("succeeded", 0) + client.counts("default").get("failed", 0) == len(ids), "all ended", 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    # Deregistering gives back what was held; three such losses in a row may end a job, nothing else may.
    assert all(j.error.type == "WORKER_LOST" for j in client.list(states=[JobState.FAILED]))


@BOTH
def test_a_fresh_connection_is_pinged_before_it_seems_dead(make_server, make_worker, transport):
    server = make_server({"--session-timeout": "60s"})
    begin = time.monotonic()
    worker = make_worker(server, transport=transport)
    wait_until(lambda: any(message.ping for message in worker.received), "a ping")
    silence_s = api.unix(worker.registered.silence_timeout)
    assert time.monotonic() - begin < silence_s == 60, "nothing else is sent to an idle worker"
