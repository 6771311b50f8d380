# SPDX-License-Identifier: Apache-2.0
"""What users see of a job: status, result, error, history, log, waiting reason; wait, watch, list, cancel, update, delete."""
import os
import re
import threading
import time
import urllib.request

import pytest

from harness import api
from harness.api import AttemptOutcome, CommandKind, JobPriority, JobState, WaitingReason, fails
from harness.wait import SOON_S, wait_until
from harness.worker import echo, failing

UNKNOWN = "00000000-0000-4000-8000-000000000000"


# ---- status ----

def test_everything_about_a_job_that_succeeded(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    created = client.create("send", queue=queue, payload=api.json_payload('{"n": 9007199254740993}'), labels={"team": "mail"})
    delivery = worker.take()
    assert delivery.payload.json == '{"n": 9007199254740993}'
    assert (delivery.task, delivery.queue, delivery.attempt, delivery.max_attempts, delivery.delivery) == ("send", queue, 1, 4, 1)
    assert dict(delivery.labels) == {"team": "mail"}
    running = client.job(created.id)
    assert (running.state, running.waiting_reason) == (JobState.RUNNING, WaitingReason.UNSPECIFIED)
    assert running.session_id == worker.session_id
    at = time.time()
    worker.started(delivery, at)
    worker.progress(delivery, 0.25, "a quarter")
    worker.log(delivery, "first line", "second line")
    running = client.job(created.id)
    assert (running.progress.fraction, running.progress.message) == (0.25, "a quarter")
    assert api.unix(running.started_at) == pytest.approx(at, abs=0.01)
    assert client.log(created.id) == ["first line", "second line"]
    worker.succeed(delivery, '{"sent": true}')
    ended = client.job(created.id)
    assert (ended.state, ended.attempts, ended.deliveries, ended.lost_count) == (JobState.SUCCEEDED, 1, 1, 0)
    assert ended.result.json == '{"sent": true}'
    assert not ended.HasField("error") and not ended.HasField("progress")
    assert dict(ended.labels) == {"team": "mail"}
    (attempt,) = ended.history
    assert (attempt.delivery, attempt.session_id, attempt.outcome) == (1, worker.session_id, AttemptOutcome.SUCCEEDED)
    assert api.unix(attempt.finished_at) == pytest.approx(api.unix(ended.finished_at))
    log = client.GetJob(id=created.id, with_log=True).log
    assert [(line.text, line.delivery) for line in log] == [("first line", 1), ("second line", 1)]


def test_everything_about_a_job_that_failed(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create("send", queue=queue, retry_policy=api.RetryPolicy(max_attempts=2, kind=api.BackoffKind.CONSTANT,
                                                                           initial=api.seconds(0.05)))
    worker.fail(worker.take(), "SMTPError", "mailbox full", "Traceback\n  File \"mail.py\", line 7, in send\n")
    retrying = shared.wait_for_state(job.id, JobState.RETRYING, JobState.PENDING, JobState.RUNNING)
    assert (retrying.error.type, retrying.error.message) == ("SMTPError", "mailbox full")
    worker.fail(worker.take(), "SMTPError", "mailbox still full", "Traceback\n  File \"mail.py\", line 7, in send\n")
    ended = client.job(job.id)
    assert (ended.state, ended.attempts, ended.deliveries) == (JobState.FAILED, 2, 2)
    assert (ended.error.type, ended.error.message) == ("SMTPError", "mailbox still full")
    assert "mail.py" in ended.error.trace
    assert len(ended.error.fingerprint) == 16 and int(ended.error.fingerprint, 16) >= 0
    assert [(a.delivery, a.outcome, a.error.message) for a in ended.history] == [
        (1, AttemptOutcome.FAILED, "mailbox full"), (2, AttemptOutcome.FAILED, "mailbox still full")]


def test_history_keeps_the_last_ten(shared, make_worker, queue):
    client = shared.client
    make_worker(shared, [queue], handler=failing())
    job = client.create(queue=queue, retry_policy=api.RetryPolicy(max_attempts=12, kind=api.BackoffKind.CONSTANT,
                                                                  initial=api.seconds(0.001)))
    ended = client.wait(job.id)
    assert (ended.state, ended.attempts) == (JobState.FAILED, 12)
    assert [a.delivery for a in ended.history] == list(range(3, 13))


def test_log_keeps_the_last_64_kib(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    delivery = worker.take()
    for start in range(0, 200, 20):
        worker.log(delivery, *(f"{n:04d} " + "x" * 1000 for n in range(start, start + 20)))
    worker.succeed(delivery)
    log = client.log(job.id)
    assert log[-1].startswith("0199")
    assert 48 * 1024 <= sum(map(len, log)) <= 64 * 1024
    assert log == sorted(log)


def test_a_log_line_is_cut_at_4_kib(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = shared.client.create(queue=queue)
    delivery = worker.take()
    worker.log(delivery, "y" * 5000)
    worker.succeed(delivery)
    (line,) = shared.client.log(job.id)
    assert line == "y" * 4096


def test_bytes_and_content_types_pass_unchanged(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    blob = bytes(range(256)) * 10
    job = client.create(queue=queue, payload=api.Payload(content_type="image/png", data=blob))
    delivery = worker.take()
    assert (delivery.payload.content_type, delivery.payload.data) == ("image/png", blob)
    worker.succeed(delivery, api.Payload(content_type="text/plain", data=b"done"))
    ended = client.job(job.id)
    assert (ended.payload.content_type, ended.payload.data) == ("image/png", blob)
    assert (ended.result.content_type, ended.result.data) == ("text/plain", b"done")


def test_a_result_up_to_1_mib_comes_back(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = shared.client.create(queue=queue)
    big = '"' + "r" * ((1 << 20) - 2) + '"'
    worker.succeed(worker.take(), big)
    assert shared.client.job(job.id).result.json == big


def test_trace_context_reaches_the_worker(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    shared.client.create(queue=queue, traceparent=parent, tracestate="a=b")
    delivery = worker.take()
    assert (delivery.traceparent, delivery.tracestate) == (parent, "a=b")


def test_basic_view_leaves_bodies_out(shared, make_worker, queue):
    client = shared.client
    make_worker(shared, [queue], handler=echo)
    job = client.create(queue=queue, payload=api.json_payload("[1]"))
    client.wait(job.id)
    basic = client.GetJob(id=job.id, view=api.View.BASIC).job
    assert not basic.HasField("payload") and not basic.HasField("result") and not basic.history
    full = client.GetJob(id=job.id).job
    assert full.payload.json == full.result.json == "[1]"
    (listed,) = client.list(ids=[job.id])
    assert not listed.HasField("payload")
    (listed,) = client.list(ids=[job.id], view=api.View.FULL)
    assert listed.payload.json == listed.result.json == "[1]"


@pytest.mark.parametrize("method", ["GetJob", "WaitJob", "CancelJob", "RetryJob", "DeleteJob", "UpdateJob"])
def test_an_unknown_id_is_not_found(shared, method):
    with fails("NOT_FOUND", text=UNKNOWN):
        getattr(shared.client, method)(id=UNKNOWN)


# ---- why does it wait? ----

def reason_of(client, job_id):
    """Get and list agree."""
    seen = client.job(job_id).waiting_reason
    (listed,) = client.list(ids=[job_id])
    assert listed.waiting_reason == seen
    return WaitingReason(seen)


def test_reason_no_worker_for_queue(shared, queue):
    job = shared.client.create(queue=queue)
    assert job.waiting_reason == WaitingReason.NO_WORKER_FOR_QUEUE
    assert reason_of(shared.client, job.id) == WaitingReason.NO_WORKER_FOR_QUEUE
    answer = shared.client.WaitJob(id=job.id, timeout=api.seconds(0.01))
    assert answer.timed_out and answer.job.waiting_reason == WaitingReason.NO_WORKER_FOR_QUEUE


def test_reason_no_worker_for_task(shared, make_worker, queue):
    make_worker(shared, [queue], tasks=["other"])
    job = shared.client.create("unheard_of", queue=queue)
    wait_until(lambda: reason_of(shared.client, job.id) == WaitingReason.NO_WORKER_FOR_TASK, "reason")


def test_reason_no_free_slot(shared, make_worker, queue):
    worker = make_worker(shared, [queue], concurrency=1)
    shared.client.create(queue=queue)
    worker.take()
    assert reason_of(shared.client, shared.client.create(queue=queue).id) == WaitingReason.NO_FREE_SLOT


def test_reason_queue_paused(shared, make_worker, queue):
    make_worker(shared, [queue])
    shared.client.PauseQueue(name=queue)
    assert reason_of(shared.client, shared.client.create(queue=queue).id) == WaitingReason.QUEUE_PAUSED


def test_reason_queue_limit(shared, make_worker, queue):
    shared.client.UpdateQueue(name=queue, settings=api.QueueSettings(max_running=api.UInt32Value(value=1)))
    worker = make_worker(shared, [queue])
    shared.client.create(queue=queue)
    worker.take()
    assert reason_of(shared.client, shared.client.create(queue=queue).id) == WaitingReason.QUEUE_LIMIT


def test_reason_rate_limited(shared, make_worker, queue):
    shared.client.UpdateQueue(name=queue, settings=api.QueueSettings(rate_per_second=api.DoubleValue(value=0.01)))
    worker = make_worker(shared, [queue])
    shared.client.create(queue=queue)
    worker.take()
    assert reason_of(shared.client, shared.client.create(queue=queue).id) == WaitingReason.RATE_LIMITED


def test_reason_concurrency_key(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    key = api.ConcurrencyKey(key="customer-7")
    shared.client.create(queue=queue, concurrency_key=key)
    worker.take()
    job = shared.client.create(queue=queue, concurrency_key=key)
    wait_until(lambda: reason_of(shared.client, job.id) == WaitingReason.CONCURRENCY_KEY, "reason")
    assert shared.client.job(job.id).state == JobState.PENDING


def test_reason_blocked(shared, queue):
    spec = api.JobSpec(task="work", queue=queue)
    chain = shared.client.CreateChain(steps=[spec, spec]).chain
    assert shared.client.job(chain.job_ids[1]).state == JobState.BLOCKED
    assert reason_of(shared.client, chain.job_ids[1]) == WaitingReason.BLOCKED


def test_reason_scheduled(shared, queue):
    assert reason_of(shared.client, shared.client.create(queue=queue, delay=api.seconds(60)).id) == WaitingReason.SCHEDULED


def test_no_reason_once_ended(shared, queue):
    job = shared.client.create(queue=queue)
    shared.client.CancelJob(id=job.id)
    assert reason_of(shared.client, job.id) == WaitingReason.UNSPECIFIED


# ---- wait ----

def test_wait_answers_when_the_job_ends(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.WaitJob(id=job.id, timeout=api.seconds(30)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    worker.succeed(worker.take(), '"done"')
    for thread in threads:
        thread.join(SOON_S)
    assert [(a.timed_out, a.job.state, a.job.result.json) for a in answers] == [(False, JobState.SUCCEEDED, '"done"')] * 5


def test_wait_has_its_own_timeout_and_answers_the_latest_state(shared, queue):
    job = shared.client.create(queue=queue)
    begin = time.monotonic()
    answer = shared.client.WaitJob(id=job.id, timeout=api.seconds(0.3))
    assert 0.25 < time.monotonic() - begin < 25  # unless told otherwise it takes 30 s
    assert answer.timed_out and answer.job.state == JobState.PENDING


def test_wait_zero_answers_at_once(shared, queue):
    job = shared.client.create(queue=queue)
    answer = shared.client.WaitJob(id=job.id, timeout=api.seconds(0))
    assert answer.timed_out and answer.job.state == JobState.PENDING


def test_the_transports_deadline_is_deadline_exceeded(shared, queue):
    job = shared.client.create(queue=queue)
    with fails("DEADLINE_EXCEEDED"):
        shared.client.WaitJob(id=job.id, timeout=api.seconds(20), timeout_s=0.3)
    assert shared.client.job(job.id).state == JobState.PENDING


def test_wait_for_one_that_has_ended_answers_at_once(shared, queue):
    job = shared.client.create(queue=queue)
    shared.client.CancelJob(id=job.id)
    answer = shared.client.WaitJob(id=job.id, timeout=api.seconds(600))
    assert not answer.timed_out and answer.job.state == JobState.CANCELLED


def test_waits_end_with_unavailable_when_the_server_stops(server):
    job = server.client.create()
    seen = []

    def wait():
        with fails("UNAVAILABLE") as failure:
            server.client.WaitJob(id=job.id, timeout=api.seconds(60))
        seen.append(failure.error)

    thread = threading.Thread(target=wait)
    thread.start()
    other = api.Client(server.target)
    assert other.job(job.id).state == JobState.PENDING
    server.stop()
    thread.join(SOON_S)
    assert seen
    other.close()


# ---- watch ----

class Watch:
    """Collects what a watch tells."""

    def __init__(self, client, view=0, **filter_fields):
        self.stream = client.WatchJobs(filter=api.JobFilter(**filter_fields), view=view, timeout_s=120)
        self.messages = []
        self.failure = None
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.ready.wait(SOON_S), f"initial states: {self.failure}"

    def _read(self):
        try:
            for message in self.stream:
                self.messages.append(message)
                if message.initial_done:
                    self.ready.set()
        except api.Failure as failure:
            self.failure = failure

    def states(self, job_id):
        """States told of a job, each change once."""
        return [JobState(m.job.state).name for m in self.messages if m.job.id == job_id and not m.deleted]


def test_watch_tells_every_change_in_order(shared, make_worker, queue):
    client = shared.client
    before = client.create(queue=queue)
    watch = Watch(client, queues=[queue])
    assert watch.states(before.id) == ["PENDING"]
    job = client.create("send", queue=queue, delay=api.seconds(0.2), retry_policy=api.RetryPolicy(
        max_attempts=2, kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05)))
    client.CancelJob(id=before.id)
    worker = make_worker(shared, [queue])
    worker.fail(worker.take())
    worker.succeed(worker.take())
    wait_until(lambda: watch.states(job.id)[-1:] == ["SUCCEEDED"], "the end")
    assert watch.states(job.id) == ["SCHEDULED", "PENDING", "RUNNING", "RETRYING", "PENDING", "RUNNING", "SUCCEEDED"]
    assert watch.states(before.id) == ["PENDING", "CANCELLED"]
    client.DeleteJob(id=job.id)
    wait_until(lambda: any(m.deleted and m.job.id == job.id for m in watch.messages), "its removal")
    watch.stream.cancel()


def test_watch_by_label_sees_matches_only(shared, queue):
    client = shared.client
    label = {"w": queue}
    watch = Watch(client, labels=label)
    other = client.create(queue=queue)
    mine = client.create(queue=queue, labels=label)
    wait_until(lambda: watch.states(mine.id), "the match")
    assert not watch.states(other.id)
    watch.stream.cancel()


def test_watch_needs_a_condition(shared):
    with fails("INVALID_ARGUMENT", field="filter"):
        shared.client.WatchJobs(filter=api.JobFilter()).next()


def test_a_watch_for_no_match_says_so_and_waits(shared, queue):
    stream = shared.client.WatchJobs(filter=api.JobFilter(queues=[queue]))
    first = stream.next()
    assert first.initial_done and not first.HasField("job")
    stream.cancel()


def test_a_watch_shows_all_matches_or_none(server, queue):
    """What does not fit is refused with a sentence, never left out silently, nor gathered in memory."""
    client = server.client
    client.create_many([api.JobSpec(task="work", queue=queue, labels={"half": str(i % 2)}) for i in range(10_100)])
    stream = client.WatchJobs(filter=api.JobFilter(queues=[queue], labels={"half": "1"}))
    seen = 0
    while not stream.next().initial_done:
        seen += 1
    assert seen == 5050
    stream.cancel()
    with fails("RESOURCE_EXHAUSTED", text="10000"):
        for _ in client.WatchJobs(filter=api.JobFilter(queues=[queue])):
            pass
    big = api.Payload(data=b"x" * 2_000_000)
    client.create_many([api.JobSpec(task="big", queue=queue, payload=big)] * 2)
    for _ in range(30):
        client.create_many([api.JobSpec(task="big", queue=queue, payload=big)] * 2)
    with fails("RESOURCE_EXHAUSTED", text="64 MiB"):
        for _ in client.WatchJobs(filter=api.JobFilter(tasks=["big"]), view=api.View.FULL):
            pass
    assert client.create().state == JobState.PENDING


def test_a_slow_watcher_is_ended(server):
    client = server.client
    stream = client.WatchJobs(filter=api.JobFilter(queues=["default"]), view=api.View.FULL, timeout_s=60)
    assert stream.next().initial_done
    payload = api.Payload(data=b"x" * 60_000)
    # grpc reads ahead only as far as its window, and what the server keeps for one stream is bounded.
    for _ in range(30):
        client.create_many([api.JobSpec(task="work", payload=payload)] * 50)
    time_limit = time.monotonic() + SOON_S
    with fails("RESOURCE_EXHAUSTED"):
        while time.monotonic() < time_limit:
            stream.next()
    assert client.create().state == JobState.PENDING


# ---- list ----

def test_list_by_each_condition(shared, make_worker, queue):
    client = shared.client
    other = queue + "-other"
    low = client.create("a", queue=queue, priority=JobPriority.LOW, labels={"x": queue})
    high = client.create("b", queue=queue, priority=JobPriority.HIGH, labels={"x": queue, "y": "1"})
    later = client.create("a", queue=queue, delay=api.seconds(60))
    elsewhere = client.create("a", queue=other)
    cancelled = client.create("c", queue=queue)
    client.CancelJob(id=cancelled.id)

    def ids(**conditions):
        return {job.id for job in client.list(**conditions)}

    assert ids(queues=[queue]) == {low.id, high.id, later.id, cancelled.id}
    assert ids(queues=[queue, other]) == {low.id, high.id, later.id, cancelled.id, elsewhere.id}
    assert ids(queues=[queue], tasks=["a"]) == {low.id, later.id}
    assert ids(queues=[queue], states=[JobState.PENDING]) == {low.id, high.id}
    assert ids(queues=[queue], states=[JobState.SCHEDULED]) == {later.id}
    assert ids(queues=[queue], states=[JobState.CANCELLED, JobState.PENDING]) == {low.id, high.id, cancelled.id}
    assert ids(queues=[queue], priorities=[JobPriority.HIGH]) == {high.id}
    assert ids(labels={"x": queue}) == {low.id, high.id}
    assert ids(labels={"x": queue, "y": "1"}) == {high.id}
    assert ids(ids=[low.id, elsewhere.id]) == {low.id, elsewhere.id}
    assert ids(queues=[queue], created_after=high.created_at) >= {high.id, later.id, cancelled.id}
    assert ids(queues=[queue], created_before=low.created_at) == set()
    worker = make_worker(shared, [queue])
    taken = worker.take_many(2)
    assert ids(queues=[queue], states=[JobState.RUNNING]) == {low.id, high.id}
    assert ids(queues=[queue], states=[JobState.PENDING]) == set()
    worker.fail(taken[0], permanent=True)
    failed = client.job(taken[0].job_id)
    assert ids(queues=[queue], states=[JobState.FAILED]) == {failed.id}
    assert ids(queues=[queue], error_fingerprint=failed.error.fingerprint) == {failed.id}
    worker.fail(taken[1])
    assert ids(queues=[queue], states=[JobState.RETRYING]) == {taken[1].job_id}


def test_pages_cover_everything_once(shared, queue):
    client = shared.client
    ids = client.create_many([api.JobSpec(task="work", queue=queue, delay=api.seconds(60 if n % 2 else 0)) for n in range(250)])
    for page_size in (1000, 40):
        listed = [job.id for job in client.list(page_size=page_size, queues=[queue])]
        assert sorted(listed) == sorted(ids)


def test_a_full_page_stays_below_3_mib(shared, queue):
    client = shared.client
    ids = client.create_many([api.JobSpec(task="work", queue=queue, payload=api.Payload(data=b"z" * 100_000)) for _ in range(30)])
    ids += client.create_many([api.JobSpec(task="work", queue=queue, payload=api.Payload(data=b"z" * 100_000)) for _ in range(30)])
    token, seen = "", []
    while True:
        page = client.ListJobs(filter=api.JobFilter(queues=[queue]), page_size=1000, page_token=token, view=api.View.FULL)
        assert page.ByteSize() <= 3 << 20
        assert all(len(job.payload.data) == 100_000 for job in page.jobs)
        seen += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == sorted(ids)


# ---- cancel ----

def test_cancel_waiting_ends_it_at_once(shared, make_worker, queue):
    client = shared.client
    job = client.create(queue=queue)
    answer = client.CancelJob(id=job.id, reason="not needed any more")
    assert answer.accepted
    assert (answer.job.state, answer.job.error.message) == (JobState.CANCELLED, "not needed any more")
    again = client.CancelJob(id=job.id)
    assert not again.accepted and again.job.state == JobState.CANCELLED
    worker = make_worker(shared, [queue])
    after = client.create(queue=queue)
    assert worker.take().job_id == after.id


def test_cancel_running_asks_the_handler(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    delivery = worker.take()
    answer = client.CancelJob(id=job.id, reason="stop it")
    assert answer.accepted and answer.job.cancel_requested and answer.job.state == JobState.RUNNING
    command = worker.wait_for_command(CommandKind.CANCEL, job.id)
    assert command.delivery == delivery.delivery
    assert client.job(job.id).state == JobState.RUNNING
    worker.fail(delivery, cancelled=True)
    ended = client.job(job.id)
    assert (ended.state, ended.error.message) == (JobState.CANCELLED, "stop it")
    assert ended.history[-1].outcome == AttemptOutcome.CANCELLED


def test_terminate_asks_for_force(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    delivery = worker.take()
    client.CancelJob(id=job.id)
    worker.wait_for_command(CommandKind.CANCEL, job.id)
    client.CancelJob(id=job.id, terminate=True)
    worker.wait_for_command(CommandKind.TERMINATE, job.id)
    worker.fail(delivery, cancelled=True)
    assert client.job(job.id).state == JobState.CANCELLED


def test_a_cancel_reaches_a_worker_that_was_away(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    worker.take()
    worker.cut()
    client.CancelJob(id=job.id)
    worker.reconnect()
    worker.wait_for_command(CommandKind.CANCEL, job.id)


def test_cancel_by_filter(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=1)
    running = client.create(queue=queue, labels={"c": queue})
    delivery = worker.take()
    waiting = client.create_many([api.JobSpec(task="work", queue=queue, labels={"c": queue}) for _ in range(20)])
    delayed = client.create(queue=queue, labels={"c": queue}, delay=api.seconds(60))
    kept = client.create(queue=queue)
    answer = client.CancelJobs(filter=api.JobFilter(labels={"c": queue}), reason="all of them")
    assert (answer.cancelled, answer.more) == (22, False)
    for job_id in (*waiting, delayed.id):
        assert client.job(job_id).state == JobState.CANCELLED
    assert client.job(running.id).cancel_requested
    worker.fail(delivery, cancelled=True)
    assert client.job(running.id).state == JobState.CANCELLED
    assert worker.take().job_id == kept.id


@pytest.mark.parametrize("method", ["CancelJobs", "RetryJobs"])
def test_bulk_calls_need_a_condition(shared, method):
    with fails("INVALID_ARGUMENT", field="filter"):
        getattr(shared.client, method)(filter=api.JobFilter())


# ---- update, delete ----

def test_update_a_waiting_job(shared, make_worker, queue):
    client = shared.client
    first = client.create(queue=queue)
    job = client.create(queue=queue, labels={"old": "1"})
    at = api.timestamp(time.time() + 3600)
    updated = client.UpdateJob(id=job.id, priority=JobPriority.CRITICAL, labels=api.Labels(labels={"new": queue}),
                               expires_at=at, deadline=at, retry_policy=api.RetryPolicy(max_attempts=7)).job
    assert (updated.priority, dict(updated.labels), updated.max_attempts) == (JobPriority.CRITICAL, {"new": queue}, 7)
    assert updated.expires_at == updated.deadline == at
    assert [j.id for j in client.list(labels={"new": queue})] == [job.id]
    assert client.list(queues=[queue], labels={"old": "1"}) == []
    worker = make_worker(shared, [queue], concurrency=1)
    delivery = worker.take()
    assert (delivery.job_id, delivery.max_attempts) == (job.id, 7)
    with fails("FAILED_PRECONDITION"):
        client.UpdateJob(id=job.id, priority=JobPriority.LOW)
    worker.succeed(delivery)
    with fails("FAILED_PRECONDITION"):
        client.UpdateJob(id=job.id, priority=JobPriority.LOW)
    assert worker.take().job_id == first.id


@pytest.mark.parametrize("field", ["expires_at", "deadline"])
def test_update_to_a_past_end_is_refused(shared, queue, field):
    job = shared.client.create(queue=queue)
    with fails("INVALID_ARGUMENT", field=field):
        shared.client.UpdateJob(id=job.id, **{field: api.timestamp(time.time() - 60)})


def test_delete_takes_ended_jobs_only_and_leaves_a_tombstone(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job_id = api.new_id()
    client.create(queue=queue, id=job_id)
    with fails("FAILED_PRECONDITION"):
        client.DeleteJob(id=job_id)
    worker.succeed(worker.take())
    client.DeleteJob(id=job_id)
    for method in ("GetJob", "DeleteJob", "RetryJob", "CancelJob"):
        with fails("NOT_FOUND"):
            getattr(client, method)(id=job_id)
    with fails("ALREADY_EXISTS", reason="JOB_DELETED"):
        client.create(queue=queue, id=job_id)
    assert client.counts(queue) == {}


def test_the_tombstone_goes_after_ten_minutes(timed_server, clock):
    client = timed_server.client
    job_id = api.new_id()
    client.create(id=job_id)
    client.CancelJob(id=job_id)
    client.DeleteJob(id=job_id)
    clock.advance(11 * 60)

    def again():
        try:
            return client.create(id=job_id)
        except api.Failure as failure:
            assert failure.reason != "JOB_DELETED", failure
            raise RuntimeError(failure) from None

    assert wait_until(again, "the id is free again").state == JobState.PENDING


@pytest.mark.parametrize("state, days", [(JobState.SUCCEEDED, 1), (JobState.CANCELLED, 1), (JobState.FAILED, 7)])
def test_retention(timed_server, clock, make_worker, state, days):
    client = timed_server.client
    worker = make_worker(timed_server)
    job = client.create()
    kept = client.create(retention=api.seconds(30 * 86400))
    taken = worker.take_many(2)
    for delivery in taken:
        if state == JobState.SUCCEEDED:
            worker.succeed(delivery, '"' + "r" * 5000 + '"')
        elif state == JobState.FAILED:
            worker.fail(delivery, permanent=True)
        else:
            client.CancelJob(id=delivery.job_id)
            worker.fail(delivery, cancelled=True)
    assert client.job(job.id).state == state
    clock.advance(days * 86400 - 600)
    client.create()
    assert client.job(job.id).state == state
    clock.advance(1200)

    def gone():
        try:
            client.job(job.id)
            return False
        except api.Failure as failure:
            return failure.code == "NOT_FOUND"

    wait_until(gone, "removed when its retention has passed")
    assert client.job(kept.id).state == state


def test_retention_by_count(shared, make_worker, queue):
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(retention_count=api.UInt32Value(value=10)))
    make_worker(shared, [queue], handler=echo)
    ids = client.create_many([api.JobSpec(task="work", queue=queue) for _ in range(50)])
    wait_until(lambda: client.counts(queue) == {"succeeded": 10}, "only ten are kept")
    assert len(client.list(queues=[queue])) == 10
    assert len(client.list(ids=ids)) == 10


def test_retention_keeps_up_with_what_ends(shared, queue):
    """Ten thousand end at once: far more than a slice, and none of it waits for the next second."""
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(retention_count=api.UInt32Value(value=10)))
    client.create_many([api.JobSpec(task="work", queue=queue)] * 10_000)
    assert client.PurgeQueue(name=queue).purged == 10_000
    wait_until(lambda: client.counts(queue) == {"cancelled": 10}, "only ten are kept", timeout_s=20)


def test_the_disk_space_of_many_removed_jobs_is_given_back(server):
    client = server.client

    def disk_bytes():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['monitor']}/metrics", timeout=10) as answer:
            return sum(map(float, re.findall(r"^millrace_store_disk_bytes\{.*\} (\S+)", answer.read().decode(), re.MULTILINE)))

    client.UpdateQueue(name="default", settings=api.QueueSettings(retention_count=api.UInt32Value(value=10)))
    for _ in range(101):
        client.CreateJobs(jobs=[api.JobSpec(task="work", payload=api.Payload(data=os.urandom(400))) for _ in range(1000)])
    full = disk_bytes()
    assert full > 40_000_000
    assert client.PurgeQueue(name="default", timeout_s=120).purged == 101_000
    wait_until(lambda: disk_bytes() < full / 2, "most of it is free again", timeout_s=60, every_s=0.2)


def test_retention_by_count_spares_a_unique_key_held_for_a_period(shared, make_worker, queue):
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(retention_count=api.UInt32Value(value=1)))
    make_worker(shared, [queue], handler=echo)
    unique = api.UniqueKey(key="once", scope=api.UniqueScope.PERIOD, period=api.seconds(3600))
    holder = client.wait(client.create(queue=queue, unique_key=unique).id)
    others = client.create_many([api.JobSpec(task="work", queue=queue)] * 5)
    wait_until(lambda: len(client.list(ids=others)) <= 1, "the others are beyond the count")
    assert client.job(holder.id).state == JobState.SUCCEEDED
    with fails("ALREADY_EXISTS", reason="UNIQUE_KEY_TAKEN"):
        client.create(queue=queue, unique_key=unique)


def test_a_job_that_holds_a_key_for_a_period_is_not_deleted(timed_server, clock, make_worker, queue):
    client = timed_server.client
    make_worker(timed_server, [queue], handler=echo)
    unique = api.UniqueKey(key="once", scope=api.UniqueScope.PERIOD, period=api.seconds(3600))
    holder = client.wait(client.create(queue=queue, unique_key=unique).id)
    with fails("FAILED_PRECONDITION", text="once"):
        client.DeleteJob(id=holder.id)
    with fails("ALREADY_EXISTS", reason="UNIQUE_KEY_TAKEN"):
        client.create(queue=queue, unique_key=unique)
    clock.advance(3601)
    client.DeleteJob(id=holder.id)


# ---- create ----

def test_the_same_create_sent_twice_makes_one_job(shared, queue):
    spec = api.JobSpec(id=api.new_id(), task="work", queue=queue, payload=api.json_payload("[1]"), labels={"b": "2", "a": "1"})
    first = shared.client.CreateJob(job=spec)
    again = shared.client.CreateJob(job=spec)
    assert (first.existing, again.existing, again.job.id) == (False, True, spec.id)
    spec.payload.json = "[2]"
    with fails("ALREADY_EXISTS", text=spec.id):
        shared.client.CreateJob(job=spec)
    assert shared.client.counts(queue) == {"pending": 1}


def test_ids_of_the_server_are_uuid_v7_and_those_of_clients_stay(shared, queue):
    import uuid
    made = uuid.UUID(shared.client.create(queue=queue).id)
    assert made.version == 7
    for given in (str(uuid.uuid1()), str(uuid.uuid4()), "ffffffff-ffff-ffff-ffff-ffffffffffff"):
        assert shared.client.create(queue=queue, id=given).id == given
