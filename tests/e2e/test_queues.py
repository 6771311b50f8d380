# SPDX-License-Identifier: Apache-2.0
"""Queues: lengths and ages, purge, pause, limits; concurrency keys; unique keys; the same create sent twice."""
import re
import time
import urllib.request

import pytest

from harness import api
from harness.api import BackoffKind, JobPriority, JobState, UniqueRule, UniqueScope, WaitingReason, fails
from harness.wait import never, wait_until
from harness.worker import HOLD, echo, failing


def specs(queue, count, **fields):
    """Equal jobs."""
    return [api.JobSpec(task="work", queue=queue, **fields) for _ in range(count)]


def settings(client, queue, **fields):
    """Changes settings."""
    return client.UpdateQueue(name=queue, settings=api.QueueSettings(**fields)).queue


# ---- lengths and ages ----

def test_counts_of_every_state_are_exact(shared, make_worker, queue):
    client = shared.client
    slow = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(600))
    worker = make_worker(shared, [queue], tasks=["done", "dead", "again", "hold"], handler=lambda d: {
        "done": None, "dead": failing(permanent=True)(d), "again": failing()(d), "hold": HOLD}[d.task])
    for task, count in (("done", 4), ("dead", 3), ("again", 2), ("hold", 5), ("nobody", 6)):
        client.create_many([api.JobSpec(task=task, queue=queue, retry_policy=slow)] * count)
    client.create_many(specs(queue, 7, delay=api.seconds(600)))
    client.CreateChain(steps=[api.JobSpec(task="nobody", queue=queue), api.JobSpec(task="nobody", queue=queue)])
    cancelled = client.create("nobody", queue=queue)
    client.CancelJob(id=cancelled.id)
    expired = client.create("nobody", queue=queue, expires_in=api.seconds(0.01))
    client.wait(expired.id)
    worker.take_many(5)
    expected = {"pending": 7, "scheduled": 7, "retrying": 2, "blocked": 1, "running": 5, "succeeded": 4, "failed": 3, "cancelled": 1,
                "expired": 1}
    wait_until(lambda: client.counts(queue) == expected or None, f"{expected}, is {client.counts(queue)}")
    for state in JobState:
        if state != JobState.UNSPECIFIED:
            assert len(client.list(queues=[queue], states=[state])) == expected[state.name.lower()], state.name


def test_oldest_age(shared, make_worker, queue):
    client = shared.client
    assert not client.GetQueue(name=queue).queue.HasField("oldest_ready_at")
    first = client.create(queue=queue)
    client.create(queue=queue, priority=JobPriority.CRITICAL)
    client.create(queue=queue)
    wait_until(lambda: api.unix(client.GetQueue(name=queue).queue.oldest_age) > 0.3, "it grows")
    seen = client.GetQueue(name=queue).queue
    assert api.unix(seen.oldest_ready_at) == pytest.approx(api.unix(first.created_at), abs=0.01)
    assert api.unix(seen.oldest_age) == pytest.approx(time.time() - api.unix(first.created_at), abs=2)
    worker = make_worker(shared, [queue], concurrency=3)
    worker.take_many(3)
    assert not client.GetQueue(name=queue).queue.HasField("oldest_ready_at")


def test_oldest_age_after_crashes(server):
    """Places in a queue are reserved ahead of time, but not so far that they make a job look younger than it is."""
    client = server.client
    for _ in range(3):
        client.create(task="nobody", queue="before")
        server.restart()
    job = client.create(task="nobody")
    seen = client.GetQueue(name="default").queue
    assert api.unix(seen.oldest_ready_at) == pytest.approx(api.unix(job.created_at), abs=4)


def test_an_unused_name_answers_zeros_and_makes_no_queue(client):
    seen = client.GetQueue(name="never-used").queue
    assert (seen.name, seen.counts.ListFields(), seen.paused, seen.workers) == ("never-used", [], False, 0)
    assert not client.ListQueues().queues


def test_queues_are_listed_by_name_with_pages(client, server, make_worker):
    client.create(queue="b")
    settings(client, "c", max_running=api.UInt32Value(value=3))
    make_worker(server, ["a"])
    client.PauseQueue(name="d")
    page = client.ListQueues(page_size=3)
    assert [q.name for q in page.queues] == ["a", "b", "c"]
    assert (page.queues[0].workers, page.queues[1].counts.pending, page.queues[2].settings.max_running.value) == (1, 1, 3)
    rest = client.ListQueues(page_size=3, page_token=page.next_page_token)
    assert [(q.name, q.paused) for q in rest.queues] == [("d", True)] and not rest.next_page_token


def test_rates_are_told(shared, make_worker, queue):
    make_worker(shared, [queue], handler=echo)
    shared.client.create_many(specs(queue, 120))
    wait_until(lambda: shared.client.GetQueue(name=queue).queue.finished_per_second > 0, "rates")
    assert 0 < shared.client.GetQueue(name=queue).queue.created_per_second <= 120


def test_settings_counts_and_pause_survive_a_crash(server, make_worker):
    client = server.client
    settings(client, "q", max_length=api.UInt64Value(value=50), rate_per_second=api.DoubleValue(value=2.5))
    client.PauseQueue(name="q")
    client.create_many(specs("q", 20))
    make_worker(server, ["other"], handler=echo)
    client.wait(client.create(queue="other").id)
    before = client.ListQueues().queues
    server.restart()
    after = client.ListQueues().queues
    for one, other in zip(before, after):
        assert (one.name, one.settings, one.paused, one.counts) == (other.name, other.settings, other.paused, other.counts)
    client.create_many(specs("q", 30))
    with fails("RESOURCE_EXHAUSTED"):
        client.create(queue="q")


# ---- purge, pause, delete ----

def test_purge_cancels_what_is_pending_parked_too_and_nothing_else(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=1)
    key = api.ConcurrencyKey(key="k")
    running = client.create(queue=queue, concurrency_key=key)
    delivery = worker.take()
    waiting = client.create_many(specs(queue, 1500)) + client.create_many(specs(queue, 300, priority=JobPriority.CRITICAL))
    parked = client.create_many(specs(queue, 10, concurrency_key=key))
    delayed = client.create(queue=queue, delay=api.seconds(600))
    assert client.PurgeQueue(name=queue).purged == 1810
    assert client.counts(queue) == {"running": 1, "scheduled": 1, "cancelled": 1810}
    for job_id in (waiting[0], waiting[-1], parked[0]):
        job = client.job(job_id)
        assert (job.state, job.error.type) == (JobState.CANCELLED, "PURGED")
    worker.succeed(delivery)
    assert client.job(running.id).state == JobState.SUCCEEDED
    assert client.job(delayed.id).state == JobState.SCHEDULED
    assert client.PurgeQueue(name=queue).purged == 0
    after = client.create(queue=queue, concurrency_key=key)
    assert worker.take().job_id == after.id


def test_purge_serves_others_meanwhile(shared, make_worker, queue):
    client = shared.client
    for _ in range(20):
        client.create_many(specs(queue, 1000))
    other = queue + "-other"
    make_worker(shared, [other], handler=echo)
    slow = api.Client(shared.target)
    pending = slow._channel.unary_unary(api.METHODS["PurgeQueue"][0])  # pylint: disable=protected-access
    future = pending.future(api.PurgeQueueRequest(name=queue).SerializeToString(), timeout=60)
    assert client.wait(client.create(queue=other).id).state == JobState.SUCCEEDED
    assert api.PurgeQueueResponse.FromString(future.result()).purged == 20_000
    slow.close()


def test_a_stop_does_not_wait_for_a_long_purge(make_server):
    server = make_server({"--shutdown-grace": "100ms"})
    client, total = server.client, 60_000
    request = api.CreateJobsRequest(jobs=specs("big", 1000)).SerializeToString()
    for _ in range(total // 1000):
        client.raw(api.METHODS["CreateJobs"][0], request)
    slow = api.Client(server.target)
    pending = slow._channel.unary_unary(api.METHODS["PurgeQueue"][0])  # pylint: disable=protected-access
    future = pending.future(api.PurgeQueueRequest(name="big").SerializeToString(), timeout=60)
    wait_until(lambda: client.counts("big")["pending"] < total, "the purge has begun", every_s=0.001)
    server.stop()
    assert future.code().name == "UNAVAILABLE"
    slow.close()
    server.start()
    left = client.counts("big")
    assert left["pending"] > 0 and left["pending"] + left["cancelled"] == total
    assert client.PurgeQueue(name="big").purged == left["pending"]


def test_purge_of_an_unused_name_is_zero(shared, queue):
    assert shared.client.PurgeQueue(name=queue).purged == 0


def test_pause_and_resume(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    held = client.create(queue=queue)
    delivery = worker.take()
    assert client.PauseQueue(name=queue).queue.paused
    job = client.create(queue=queue)
    critical = client.create(queue=queue, priority=JobPriority.CRITICAL)
    never(lambda: not worker.deliveries.empty(), "a paused queue delivers", 0.4)
    worker.succeed(delivery)
    assert client.job(held.id).state == JobState.SUCCEEDED
    assert not client.ResumeQueue(name=queue).queue.paused
    assert [d.job_id for d in worker.take_many(2)] == [critical.id, job.id]


def test_what_the_server_will_make_later_has_its_place_from_the_start(client):
    """A callback or a schedule's job must not find the door shut when its time has come."""
    for first in range(0, 10_000, 1000):
        client.create_many([api.JobSpec(task=f"t{n}", queue="q") for n in range(first, first + 1000)])
    one_too_many = api.JobSpec(task="another", queue="q")
    with fails("RESOURCE_EXHAUSTED", field="on_failure.task"):
        client.CreateChain(steps=[api.JobSpec(task="t0", queue="q")], on_failure=one_too_many)
    for callback in ("on_success", "on_complete"):
        with fails("RESOURCE_EXHAUSTED", field=f"{callback}.task"):
            client.CreateBatch(items=[api.JobSpec(task="t0", queue="q")], **{callback: one_too_many})
    timing = api.ScheduleTiming(interval=api.seconds(3600))
    with fails("RESOURCE_EXHAUSTED", field="schedule.job.task"):
        client.CreateSchedule(schedule=api.ScheduleSpec(name="hourly", timing=timing, job=one_too_many))
    assert client.counts("q")["pending"] == 10_000
    client.CreateBatch(items=[api.JobSpec(task="t0", queue="q")], on_complete=api.JobSpec(task="t1", queue="q"))


def test_delete_takes_empty_queues_only(client, server, make_worker):
    job = client.create(queue="q")
    with fails("FAILED_PRECONDITION", text="'q'"):
        client.DeleteQueue(name="q")
    worker = make_worker(server, ["q"], handler=echo)
    client.wait(job.id)
    client.DeleteJob(id=job.id)
    with fails("FAILED_PRECONDITION", text="'q'"):
        client.DeleteQueue(name="q")
    worker.close()
    wait_until(lambda: client.GetQueue(name="q").queue.workers == 0, "nobody serves it")
    client.DeleteQueue(name="q")
    assert not client.ListQueues().queues
    assert client.create(queue="q").state == JobState.PENDING


# ---- limits ----

def test_length_limit(shared, make_worker, queue):
    client = shared.client
    settings(client, queue, max_length=api.UInt64Value(value=3))
    ids = client.create_many(specs(queue, 2)) + [client.create(queue=queue, delay=api.seconds(600)).id]
    with fails("RESOURCE_EXHAUSTED", text=queue) as failure:
        client.create(queue=queue)
    assert "3" in failure.error.message
    # The same create sent again is not a new one.
    assert client.CreateJob(job=api.JobSpec(id=ids[0], task="work", queue=queue)).existing
    outcomes = client.CreateJobs(jobs=specs(queue, 2) + specs(queue + "-other", 1)).outcomes
    assert [o.error.code for o in outcomes] == [8, 8, 0]
    assert api.Failure.of_status(outcomes[0].error).retry_after_s == failure.error.retry_after_s == 1
    with fails("RESOURCE_EXHAUSTED"):
        client.CreateChain(steps=specs(queue, 2))
    client.CancelJob(id=ids[0])
    client.create(queue=queue)
    settings(client, queue, max_length=api.UInt64Value(value=0))
    client.create_many(specs(queue, 10))
    assert make_worker(shared, [queue]).take()


def test_running_limit(shared, make_worker, queue):
    client = shared.client
    settings(client, queue, max_running=api.UInt32Value(value=3))
    client.create_many(specs(queue, 10))
    worker = make_worker(shared, [queue], concurrency=10)
    taken = worker.take_many(3)
    never(lambda: not worker.deliveries.empty(), "more than three run", 0.4)
    assert client.counts(queue) == {"running": 3, "pending": 7}
    for delivery in taken:
        worker.succeed(delivery)
    worker.take_many(3)
    settings(client, queue, max_running=api.UInt32Value(value=0))
    worker.take_many(4)


def test_rate_limit(shared, make_worker, queue):
    client = shared.client
    settings(client, queue, rate_per_second=api.DoubleValue(value=20), rate_burst=api.UInt32Value(value=5))
    client.create_many(specs(queue, 25))
    begin = time.monotonic()
    worker = make_worker(shared, [queue], concurrency=100, handler=echo)
    wait_until(lambda: client.counts(queue) == {"succeeded": 25}, "all have run", every_s=0.005)
    took = time.monotonic() - begin
    # 5 at once, then 20 more at 20 a second.
    assert 0.9 <= took < 30
    assert len(worker.taken) == 25


def test_rate_burst(shared, make_worker, queue):
    client = shared.client
    settings(client, queue, rate_per_second=api.DoubleValue(value=0.01), rate_burst=api.UInt32Value(value=4))
    client.create_many(specs(queue, 10))
    worker = make_worker(shared, [queue], concurrency=100)
    worker.take_many(4)
    never(lambda: not worker.deliveries.empty(), "more than the burst", 0.4)
    settings(client, queue, rate_per_second=api.DoubleValue(value=0))
    worker.take_many(6)


# ---- concurrency keys ----

def test_concurrency_key_limits_per_queue(shared, make_worker, queue):
    client = shared.client
    other = queue + "-other"
    key = api.ConcurrencyKey(key="customer-7", limit=2)
    client.create_many(specs(queue, 6, concurrency_key=key) + specs(other, 3, concurrency_key=key) + specs(queue, 2))
    worker = make_worker(shared, [queue, other], concurrency=20)
    taken = worker.take_many(6)
    never(lambda: not worker.deliveries.empty(), "more than the key allows", 0.4)
    by_queue = [d.queue for d in taken]
    assert (by_queue.count(queue), by_queue.count(other)) == (4, 2)
    assert client.counts(queue) == {"running": 4, "pending": 4}
    for _ in range(5):
        delivery = taken.pop()
        worker.succeed(delivery)
    wait_until(lambda: not worker.deliveries.empty(), "the next of the key")


def test_each_job_carries_its_limit(shared, make_worker, queue):
    client = shared.client
    for _ in range(2):
        client.create(queue=queue, concurrency_key=api.ConcurrencyKey(key="k", limit=5))
    worker = make_worker(shared, [queue])
    worker.take_many(2)
    narrow = client.create(queue=queue, concurrency_key=api.ConcurrencyKey(key="k", limit=2))
    wait_until(lambda: client.job(narrow.id).waiting_reason == WaitingReason.CONCURRENCY_KEY, "reason")
    wide = client.create(queue=queue, concurrency_key=api.ConcurrencyKey(key="k", limit=5))
    assert worker.take().job_id == wide.id


def test_a_job_that_nobody_handles_keeps_its_key_from_nobody(shared, make_worker, queue):
    client = shared.client
    key = api.ConcurrencyKey(key="k")
    worker = make_worker(shared, [queue], concurrency=5)
    doomed = make_worker(shared, [queue], tasks=["lost"], concurrency=1)
    worker_tasks = make_worker(shared, [queue], tasks=["kept"], concurrency=5)
    worker.close()
    client.create(task="kept", queue=queue, concurrency_key=key)
    delivery = worker_tasks.take()
    orphans = [client.create(task="lost", queue=queue, concurrency_key=key, priority=JobPriority.HIGH).id for _ in range(3)]
    parked = client.create(task="kept", queue=queue, concurrency_key=key)
    wait_until(lambda: all(client.job(i).waiting_reason == WaitingReason.CONCURRENCY_KEY for i in (*orphans, parked.id)), "they are parked")
    doomed.close()
    wait_until(lambda: len(client.ListWorkers(queue=queue).workers) == 1, "nobody handles the task any more")
    worker_tasks.succeed(delivery)
    assert worker_tasks.take().job_id == parked.id
    assert {client.job(i).waiting_reason for i in orphans} == {WaitingReason.NO_WORKER_FOR_TASK}


def test_parked_jobs_cost_nothing_while_they_wait(server, make_worker):
    """They are not moved about: a server with nothing to do writes nothing."""
    client = server.client
    worker = make_worker(server, concurrency=100)
    for key in ("a", "b", "c", "a", "b", "c"):
        client.create_many(specs("default", 10, concurrency_key=api.ConcurrencyKey(key=key, limit=2)))
    worker.take_many(6)

    def writes():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['monitor']}/metrics", timeout=10) as answer:
            return int(re.search(r"^millrace_store_writes_total (\d+)", answer.read().decode(), re.MULTILINE)[1])

    def heartbeats():
        return client.ListWorkers().workers[0].last_seen_at.ToNanoseconds()

    wait_until(lambda: client.counts("default") == {"pending": 54, "running": 6}, "six run")
    before, beat = writes(), heartbeats()
    for _ in range(4):  # each is a turn in which jobs may be dealt
        beat = wait_until(lambda last=beat: (now := heartbeats()) != last and now, "a heartbeat")
    assert writes() - before <= 1, "parked jobs were written again"


def test_parked_jobs_go_by_priority_then_age(shared, make_worker, queue):
    client = shared.client
    key = api.ConcurrencyKey(key="k")
    worker = make_worker(shared, [queue], concurrency=10)
    client.create(queue=queue, concurrency_key=key)
    delivery = worker.take()
    low = client.create(queue=queue, concurrency_key=key, priority=JobPriority.LOW)
    normal = [client.create(queue=queue, concurrency_key=key).id for _ in range(2)]
    high = client.create(queue=queue, concurrency_key=key, priority=JobPriority.HIGH)
    order = []
    for _ in range(4):
        worker.succeed(delivery)
        delivery = worker.take()
        order.append(delivery.job_id)
    assert order == [high.id, *normal, low.id]


def end_by_success(client, worker, delivery):
    """Succeeds."""
    del client
    worker.succeed(delivery)


def end_by_failure(client, worker, delivery):
    """Fails for good."""
    del client
    worker.fail(delivery, permanent=True)


def end_by_retry(client, worker, delivery):
    """Fails and will be tried again."""
    del client
    worker.fail(delivery)


def end_by_snooze(client, worker, delivery):
    """Snoozes."""
    del client
    worker.snooze(delivery, 600)


def end_by_cancel(client, worker, delivery):
    """Is cancelled."""
    client.CancelJob(id=delivery.job_id)
    worker.fail(delivery, cancelled=True)


def end_by_loss(client, worker, delivery):
    """Is lost."""
    del client
    worker.held.pop((delivery.job_id, delivery.delivery))
    worker.beat()


@pytest.mark.parametrize("end", [end_by_success, end_by_failure, end_by_retry, end_by_snooze, end_by_cancel, end_by_loss])
def test_whatever_ends_a_holder_lets_the_next_one_go(shared, make_worker, queue, end):
    client = shared.client
    key = api.ConcurrencyKey(key="k")
    slow = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(600))
    worker = make_worker(shared, [queue])
    client.create(queue=queue, concurrency_key=key, retry_policy=slow)
    delivery = worker.take()
    parked = client.create(queue=queue, concurrency_key=key)
    wait_until(lambda: client.job(parked.id).waiting_reason == WaitingReason.CONCURRENCY_KEY, "parked")
    end(client, worker, delivery)
    assert worker.take().job_id == parked.id


@pytest.mark.parametrize("event", ["cancel", "expire", "purge", "update", "cancel_by_filter"])
def test_keys_never_stall_when_a_ready_holder_goes(timed_server, clock, make_worker, event):
    client, queue = timed_server.client, "default"
    key = api.ConcurrencyKey(key="k")
    worker = make_worker(timed_server, concurrency=2)
    client.create(queue=queue, concurrency_key=key)
    delivery = worker.take()
    # A filler takes the last slot, so that the next holder of the key becomes ready and can't start.
    filler = client.create(queue=queue)
    worker.take()
    ready = client.create(queue=queue, concurrency_key=key, priority=JobPriority.HIGH,
                          **({"expires_in": api.seconds(600)} if event == "expire" else {}))
    parked = [client.create(queue=queue, concurrency_key=key).id for _ in range(3)]
    urgent = client.create(queue=queue, priority=JobPriority.CRITICAL)
    worker.succeed(delivery)
    busy = worker.take()
    assert busy.job_id == urgent.id and filler
    if event == "cancel":
        client.CancelJob(id=ready.id)
    elif event == "cancel_by_filter":
        client.CancelJobs(filter=api.JobFilter(ids=[ready.id]))
    elif event == "expire":
        clock.advance(600)
        assert client.wait(ready.id).state == JobState.EXPIRED
    elif event == "update":
        client.UpdateJob(id=ready.id, run_at=api.timestamp(clock.now() + 600))
    else:
        client.PurgeQueue(name=queue)
        parked = [client.create(queue=queue, concurrency_key=key).id for _ in range(3)]
    worker.succeed(busy)
    for job_id in parked:
        delivery = worker.take()
        assert delivery.job_id == job_id
        worker.succeed(delivery)


def test_keys_hold_through_a_crash(server, make_worker):
    client = server.client
    key = api.ConcurrencyKey(key="k", limit=2)
    worker = make_worker(server, concurrency=10)
    ids = client.create_many(specs("default", 6, concurrency_key=key))
    taken = worker.take_many(2)
    server.restart()
    worker.reconnect()
    never(lambda: not worker.deliveries.empty(), "the key was forgotten", 0.5)
    order = [d.job_id for d in taken]
    while taken:
        worker.succeed(taken.pop(0))
        if len(order) < 6:
            taken.append(worker.take())
            order.append(taken[-1].job_id)
    assert order == ids


def test_keys_are_let_go_when_the_server_was_killed_with_nobody_running(server, make_worker):
    client = server.client
    key = api.ConcurrencyKey(key="k")
    fast = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(0.1))
    worker = make_worker(server)
    ids = client.create_many(specs("default", 4, concurrency_key=key, retry_policy=fast))
    worker.take()
    server.kill()
    worker.vanish()
    server.start()
    make_worker(server, handler=echo)
    assert [client.wait(i).state for i in ids] == [JobState.SUCCEEDED] * 4


# ---- unique keys ----

def unique(scope=UniqueScope.UNSPECIFIED, rule=UniqueRule.UNSPECIFIED, **fields):
    """A unique key."""
    return api.UniqueKey(key="order-7", scope=scope, rule=rule, **fields)


SCOPES = {"while_waiting": {"scope": UniqueScope.WHILE_WAITING}, "until_finished": {"scope": UniqueScope.UNTIL_FINISHED}, "default": {},
          "period": {"scope": UniqueScope.PERIOD, "period": api.seconds(600)}}


@pytest.mark.parametrize("rule", [UniqueRule.UNSPECIFIED, UniqueRule.REJECT, UniqueRule.RETURN_EXISTING])
@pytest.mark.parametrize("scope", SCOPES)
def test_unique_key_for_each_scope_and_rule(shared, make_worker, queue, scope, rule):
    client = shared.client
    key = unique(rule=rule, **SCOPES[scope])

    def is_taken_by(holder):
        if rule == UniqueRule.RETURN_EXISTING:
            answer = client.CreateJob(job=api.JobSpec(task="work", queue=queue, unique_key=key))
            return answer.existing and answer.job.id == holder
        try:
            client.create(queue=queue, unique_key=key)
        except api.Failure as failure:
            assert failure.code == "ALREADY_EXISTS" and holder in failure.message
            return True
        return False

    first = client.create(queue=queue, unique_key=key)
    assert first.unique_key == "order-7"
    assert is_taken_by(first.id)
    assert client.create(queue=queue + "-other", unique_key=key).id != first.id
    worker = make_worker(shared, [queue], concurrency=1)
    delivery = worker.take()
    if scope == "while_waiting":
        second = client.create(queue=queue, unique_key=key)
        assert second.id != first.id and is_taken_by(second.id)
        worker.succeed(delivery)
        worker.take()
        return
    assert is_taken_by(first.id)
    worker.succeed(delivery)
    if scope == "period":
        assert is_taken_by(first.id)
    else:
        assert client.create(queue=queue, unique_key=key).id != first.id
        assert worker.take()


def test_a_period_ends(timed_server, clock, make_worker):
    client = timed_server.client
    key = unique(UniqueScope.PERIOD, period=api.seconds(600))
    make_worker(timed_server, handler=echo)
    first = client.create(unique_key=key)
    client.wait(first.id)
    clock.advance(590)
    with fails("ALREADY_EXISTS", text=first.id):
        client.create(unique_key=key)
    clock.advance(15)
    second = client.create(unique_key=key)
    assert client.wait(second.id).state == JobState.SUCCEEDED


@pytest.mark.parametrize("state", ["cancelled", "failed", "expired", "purged"])
def test_every_end_frees_the_key(shared, make_worker, queue, state):
    client = shared.client
    job = client.create(queue=queue, unique_key=unique(), **({"expires_in": api.seconds(0.1)} if state == "expired" else {}))
    if state == "cancelled":
        client.CancelJob(id=job.id)
    elif state == "purged":
        client.PurgeQueue(name=queue)
    elif state == "failed":
        make_worker(shared, [queue], handler=failing(permanent=True))
    client.wait(job.id)
    assert client.create(queue=queue, unique_key=unique()).id != job.id


def test_a_waiting_retry_keeps_the_key_and_takes_it_only_if_free(shared, make_worker, queue):
    client = shared.client
    slow = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(600))
    worker = make_worker(shared, [queue])
    first = client.create(queue=queue, unique_key=unique(), retry_policy=slow)
    worker.fail(worker.take())
    with fails("ALREADY_EXISTS", text=first.id):
        client.create(queue=queue, unique_key=unique())
    waiting = unique(UniqueScope.WHILE_WAITING)
    waiting.key = "other"
    one = client.create(queue=queue, unique_key=waiting)
    delivery = worker.take()
    two = client.create(queue=queue, unique_key=waiting, delay=api.seconds(600))
    worker.snooze(delivery, 600)  # goes back to waiting while another one has the key
    assert client.job(one.id).state == JobState.SCHEDULED
    client.CancelJob(id=one.id)
    with fails("ALREADY_EXISTS", text=two.id):
        client.create(queue=queue, unique_key=waiting)


@pytest.mark.parametrize("event", ["fails", "snoozes", "is released", "is lost"])
def test_a_job_that_waits_again_takes_its_free_key_again(shared, make_worker, queue, event):
    client = shared.client
    slow = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(600))
    key = unique(UniqueScope.WHILE_WAITING)
    worker = make_worker(shared, [queue])
    first = client.create(queue=queue, unique_key=key, retry_policy=slow)
    delivery = worker.take()
    client.PauseQueue(name=queue)
    if event == "fails":
        worker.fail(delivery)
    elif event == "snoozes":
        worker.snooze(delivery, 600)
    elif event == "is released":
        worker.release(delivery)
    else:
        worker.held.pop((delivery.job_id, delivery.delivery))
        worker.beat()
        shared.wait_for_state(first.id, JobState.RETRYING)
    assert client.job(first.id).state != JobState.RUNNING
    with fails("ALREADY_EXISTS", reason="UNIQUE_KEY_TAKEN", text=first.id):
        client.create(queue=queue, unique_key=key)
    client.CancelJob(id=first.id)
    assert client.create(queue=queue, unique_key=key).id != first.id


def test_unique_keys_survive_a_crash(server):
    client = server.client
    job = client.create(unique_key=unique())
    server.restart()
    with fails("ALREADY_EXISTS", text=job.id):
        client.create(unique_key=unique())


def test_unique_within_one_call(shared, queue):
    spec = api.JobSpec(task="work", queue=queue, unique_key=unique())
    outcomes = shared.client.CreateJobs(jobs=[spec, spec]).outcomes
    assert not outcomes[0].HasField("error")
    failure = api.Failure.of_status(outcomes[1].error)
    assert failure.code == "ALREADY_EXISTS" and outcomes[0].id in failure.message


# ---- the same create sent twice ----

def test_sent_twice_alone_in_bulk_and_in_a_stream(shared, make_worker, queue):
    client = shared.client
    jobs = [api.JobSpec(id=api.new_id(), task="work", queue=queue, payload=api.json_payload(f"[{n}]")) for n in range(50)]
    assert not client.CreateJob(job=jobs[0]).existing
    traced = api.JobSpec(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")  # a trace of its own is no other content
    traced.MergeFrom(jobs[0])
    assert client.CreateJob(job=traced).existing
    outcomes = client.CreateJobs(jobs=jobs).outcomes
    assert [o.existing for o in outcomes] == [True] + [False] * 49
    assert [o.id for o in outcomes] == [j.id for j in jobs]
    stream = client.CreateJobsStream(iter([api.CreateJobsStreamRequest(jobs=jobs[:20]), api.CreateJobsStreamRequest(jobs=jobs[20:]),
                                           api.CreateJobsStreamRequest(jobs=jobs[:1] + jobs[:1])]))
    answers = list(stream)
    assert [len(a.outcomes) for a in answers] == [20, 30, 2]
    assert all(o.existing for a in answers for o in a.outcomes)
    assert client.counts(queue) == {"pending": 50}
    worker = make_worker(shared, [queue], concurrency=100, handler=echo)
    wait_until(lambda: client.counts(queue) == {"succeeded": 50}, "all have run")
    assert client.CreateJob(job=jobs[0]).existing
    assert set(worker.taken.values()) == {1}


def test_twice_within_one_call(shared, queue):
    spec = api.JobSpec(id=api.new_id(), task="work", queue=queue)
    outcomes = shared.client.CreateJobs(jobs=[spec, spec]).outcomes
    assert [o.existing for o in outcomes] == [False, True]
    other = api.JobSpec(id=spec.id, task="other", queue=queue)
    outcomes = shared.client.CreateJobs(jobs=[spec, other]).outcomes
    assert outcomes[0].existing
    assert api.Failure.of_status(outcomes[1].error).code == "ALREADY_EXISTS"
    assert shared.client.counts(queue) == {"pending": 1}


def test_sent_again_after_a_crash(server):
    client = server.client
    spec = api.JobSpec(id=api.new_id(), task="work", payload=api.json_payload("[1]"))
    client.CreateJob(job=spec)
    server.restart()
    assert client.CreateJob(job=spec).existing
    spec.task = "other"
    with fails("ALREADY_EXISTS"):
        client.CreateJob(job=spec)


def test_bulk_outcomes_stand_for_themselves(shared, queue):
    client = shared.client
    jobs = specs(queue, 4)
    jobs[1].task = "not a name"
    jobs[2].id = "not-an-id"
    outcomes = client.CreateJobs(jobs=jobs).outcomes
    assert [o.error.code for o in outcomes] == [0, 3, 3, 0]
    assert "jobs[1].task" in api.Failure.of_status(outcomes[1].error).fields
    assert "jobs[2].id" in api.Failure.of_status(outcomes[2].error).fields
    assert client.counts(queue) == {"pending": 2}


def test_a_stream_answers_each_message_in_order(shared, queue):
    client = shared.client
    messages = [api.CreateJobsStreamRequest(jobs=[api.JobSpec(id=api.new_id(), task="work", queue=queue) for _ in range(n % 7 + 1)])
                for n in range(200)]
    answers = list(client.CreateJobsStream(iter(messages)))
    assert [[o.id for o in a.outcomes] for a in answers] == [[j.id for j in m.jobs] for m in messages]
    assert client.counts(queue) == {"pending": sum(len(m.jobs) for m in messages)}
