# SPDX-License-Identifier: Apache-2.0
"""The table of docs/jobs.md, row by row: a job in a state, an event, what becomes of it."""
import time

import pytest

from harness import api
from harness.api import AttemptOutcome, CommandKind, JobState, ReleaseReason, WaitingReason, fails
from harness.wait import never, wait_until
from harness.worker import echo, failing

SLOW_RETRY = api.RetryPolicy(kind=api.BackoffKind.CONSTANT, initial=api.seconds(600), jitter=api.DoubleValue(value=0))
FAST_RETRY = api.RetryPolicy(kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05), jitter=api.DoubleValue(value=0))


def in_state(server, make_worker, queue, state, **spec):
    """A job that waits in this state; the worker that brought it there is gone."""
    client = server.client
    if state == JobState.SCHEDULED:
        return client.create(queue=queue, delay=api.seconds(600), **spec).id
    if state == JobState.BLOCKED:
        first = api.JobSpec(task="work", queue=queue)
        return client.CreateChain(steps=[first, api.JobSpec(task="work", queue=queue, **spec)]).chain.job_ids[1]
    job = client.create(queue=queue, retry_policy=SLOW_RETRY, **spec)
    if state == JobState.RETRYING:
        worker = make_worker(server, [queue])
        worker.fail(worker.take())
        worker.close()
    assert client.job(job.id).state == state
    return job.id


def running(server, make_worker, queue, **spec):
    """A job that runs: (worker, delivery)."""
    worker = make_worker(server, [queue])
    server.client.create(queue=queue, **spec)
    return worker, worker.take()


# ---- PENDING SCHEDULED RETRYING BLOCKED: cancel ----

@pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED, JobState.RETRYING, JobState.BLOCKED])
def test_waiting_cancel_is_cancelled_at_once(shared, make_worker, queue, state):
    job_id = in_state(shared, make_worker, queue, state)
    answer = shared.client.CancelJob(id=job_id)
    assert answer.accepted and answer.job.state == JobState.CANCELLED
    assert shared.client.job(job_id).HasField("finished_at")


# ---- expires_at, total deadline ----

@pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED])
def test_waiting_expires(timed_server, clock, make_worker, queue, state):
    job_id = in_state(timed_server, make_worker, queue, state, expires_in=api.seconds(300))
    clock.advance(300)
    ended = timed_server.client.wait(job_id)
    assert ended.state == JobState.EXPIRED
    assert api.unix(ended.finished_at) >= api.unix(ended.expires_at)


def test_expires_at_a_time(shared, make_worker, queue):
    job = shared.client.create(queue=queue, expires_at=api.timestamp(time.time() + 0.3))
    assert shared.client.wait(job.id).state == JobState.EXPIRED
    worker = make_worker(shared, [queue])
    after = shared.client.create(queue=queue)
    assert worker.take().job_id == after.id


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED, JobState.RETRYING, JobState.BLOCKED])
def test_waiting_past_its_total_deadline_expires(timed_server, clock, make_worker, queue, state):
    job_id = in_state(timed_server, make_worker, queue, state, total_timeout=api.seconds(300))
    clock.advance(300)
    ended = timed_server.client.wait(job_id)
    assert (ended.state, ended.error.type) == (JobState.EXPIRED, "DEADLINE")


def test_blocked_does_not_expire_before_its_turn(shared, make_worker, queue):
    step = api.JobSpec(task="work", queue=queue)
    chain = shared.client.CreateChain(steps=[step, api.JobSpec(task="work", queue=queue, expires_in=api.seconds(0.2))]).chain
    never(lambda: shared.client.job(chain.job_ids[1]).state != JobState.BLOCKED, "a blocked step expired", 0.6)


def test_expiry_ends_with_the_first_start(timed_server, clock, make_worker, queue):
    worker, delivery = running(timed_server, make_worker, queue, expires_in=api.seconds(300), retry_policy=SLOW_RETRY)
    worker.started(delivery)
    worker.fail(delivery)
    clock.advance(301)
    never(lambda: timed_server.client.job(delivery.job_id).state != JobState.RETRYING, "expired after it had started", 1.2)


@pytest.mark.parametrize("ago_s", [3600, None, 0], ids=["an hour ago", "before 1970", "1970"])
def test_a_job_that_comes_too_late_never_starts(shared, make_worker, queue, ago_s):
    """Also with a worker at hand that takes it in the turn in which it is created."""
    worker = make_worker(shared, [queue], handler=echo)
    expires_at = api.timestamp(time.time() - ago_s) if ago_s else api.Timestamp(seconds=-5 if ago_s is None else 0)
    job = shared.client.wait(shared.client.create(queue=queue, expires_at=expires_at).id)
    assert (job.state, job.deliveries) == (JobState.EXPIRED, 0)
    assert not worker.taken


@pytest.mark.parametrize("end", ["released", "lost", "unknown task"])
def test_a_delivery_that_never_started_does_not_keep_a_job_from_expiring(timed_server, clock, make_worker, queue, end):
    client = timed_server.client
    worker, delivery = running(timed_server, make_worker, queue, expires_in=api.seconds(300), retry_policy=SLOW_RETRY)
    if end == "lost":
        lose_the_delivery(worker, delivery)
        timed_server.wait_for_state(delivery.job_id, JobState.RETRYING)
    elif end == "released":
        client.PauseQueue(name=queue)
        worker.release(delivery)
    else:
        worker.release(delivery, ReleaseReason.UNKNOWN_TASK)
    clock.advance(300)
    job = client.wait(delivery.job_id)
    assert (job.state, job.deliveries, job.attempts) == (JobState.EXPIRED, 1, 0)


def test_running_does_not_expire(timed_server, clock, make_worker, queue):
    worker, delivery = running(timed_server, make_worker, queue, expires_in=api.seconds(300))
    clock.advance(301)
    never(lambda: timed_server.client.job(delivery.job_id).state != JobState.RUNNING, "a running job expired", 1.2)
    worker.succeed(delivery)
    assert timed_server.client.job(delivery.job_id).state == JobState.SUCCEEDED


# ---- RUNNING: succeeded, failed ----

@pytest.mark.parametrize("cancel", [False, True], ids=["plain", "after_cancel_request"])
def test_running_succeeded_is_succeeded(shared, make_worker, queue, cancel):
    worker, delivery = running(shared, make_worker, queue)
    if cancel:
        assert shared.client.CancelJob(id=delivery.job_id).job.cancel_requested
    worker.succeed(delivery, '"ok"')
    ended = shared.client.job(delivery.job_id)
    assert (ended.state, ended.result.json) == (JobState.SUCCEEDED, '"ok"')
    assert not ended.HasField("error")


def test_running_failed_with_attempts_left_is_retrying(shared, make_worker, queue):
    worker, delivery = running(shared, make_worker, queue, retry_policy=SLOW_RETRY)
    worker.fail(delivery)
    job = shared.client.job(delivery.job_id)
    assert (job.state, job.attempts, job.error.type) == (JobState.RETRYING, 1, "Boom")
    assert api.unix(job.run_at) - api.unix(job.history[-1].finished_at) == pytest.approx(600, abs=0.01)


def test_running_failed_with_none_left_is_failed(shared, make_worker, queue):
    worker, delivery = running(shared, make_worker, queue, retry_policy=api.RetryPolicy(max_attempts=1))
    worker.fail(delivery)
    assert shared.client.job(delivery.job_id).state == JobState.FAILED


def test_running_failed_for_good_is_failed(shared, make_worker, queue):
    worker, delivery = running(shared, make_worker, queue)
    worker.fail(delivery, permanent=True)
    job = shared.client.job(delivery.job_id)
    assert (job.state, job.attempts, job.max_attempts) == (JobState.FAILED, 1, 4)


# ---- RUNNING: snoozed, released, unknown task ----

def test_running_snoozed_is_scheduled_and_does_not_count(shared, make_worker, queue):
    worker, delivery = running(shared, make_worker, queue)
    worker.snooze(delivery, 600)
    job = shared.client.job(delivery.job_id)
    assert (job.state, job.attempts, job.deliveries) == (JobState.SCHEDULED, 0, 1)
    assert job.history[-1].outcome == AttemptOutcome.SNOOZED
    assert api.unix(job.run_at) - api.unix(job.history[-1].finished_at) == pytest.approx(600, abs=0.01)


def test_running_released_is_pending_at_its_old_place(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=1)
    first = client.create(queue=queue)
    delivery = worker.take()
    others = [client.create(queue=queue).id for _ in range(3)]
    client.PauseQueue(name=queue)
    worker.release(delivery)
    job = client.job(first.id)
    assert (job.state, job.attempts, job.deliveries) == (JobState.PENDING, 0, 1)
    assert job.history[-1].outcome == AttemptOutcome.RELEASED
    client.ResumeQueue(name=queue)
    order = []
    for _ in range(4):
        delivery = worker.take()
        order.append(delivery.job_id)
        worker.succeed(delivery)
    assert order == [first.id, *others]


def test_running_unknown_task_waits_five_seconds_and_goes_to_another(timed_server, clock, make_worker):
    client = timed_server.client
    ignorant = make_worker(timed_server)
    job = client.create("rare")
    ignorant.release(ignorant.take(), ReleaseReason.UNKNOWN_TASK)
    scheduled = client.job(job.id)
    assert (scheduled.state, scheduled.attempts) == (JobState.SCHEDULED, 0)
    assert api.unix(scheduled.run_at) - api.unix(scheduled.history[-1].finished_at) == pytest.approx(5, abs=0.01)
    assert scheduled.history[-1].outcome == AttemptOutcome.UNKNOWN_TASK
    clock.advance(5)
    timed_server.wait_for_state(job.id, JobState.PENDING)
    never(lambda: ignorant.taken[job.id] > 1, "offered again to the session that does not know the task", 0.5)
    assert client.job(job.id).waiting_reason == WaitingReason.NO_WORKER_FOR_TASK
    # The session is not offered any job of that task, and still all others.
    client.create("rare")
    common = client.create("common")
    assert ignorant.take().job_id == common.id
    able = make_worker(timed_server)
    assert able.take().job_id == job.id


def test_unknown_task_fails_ten_minutes_after_the_first(timed_server, clock, make_worker):
    client = timed_server.client
    job = client.create("rare")
    for step in range(3):
        worker = make_worker(timed_server)
        worker.release(worker.take(), ReleaseReason.UNKNOWN_TASK)
        worker.close()
        if step == 2:
            break
        assert client.job(job.id).state == JobState.SCHEDULED
        clock.advance(301)
    ended = client.job(job.id)
    assert (ended.state, ended.error.type) == (JobState.FAILED, "UNKNOWN_TASK")


# ---- RUNNING: lost ----

def lose_by_vanishing(worker, delivery):
    """The whole session goes."""
    del delivery
    worker.vanish()


def lose_the_delivery(worker, delivery):
    """The session stays and does not have the delivery any more."""
    worker.held.pop((delivery.job_id, delivery.delivery))
    worker.beat()


@pytest.mark.parametrize("lose", [lose_by_vanishing, lose_the_delivery])
def test_running_lost_is_retrying_then_pending_at_its_old_place(shared, make_worker, queue, lose):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=1)
    job = client.create(queue=queue, retry_policy=FAST_RETRY)
    delivery = worker.take()
    client.PauseQueue(name=queue)
    behind = client.create(queue=queue)
    lose(worker, delivery)
    pending = shared.wait_for_state(job.id, JobState.PENDING)
    assert (pending.lost_count, pending.attempts, pending.deliveries) == (1, 0, 1)
    assert pending.history[-1].outcome == AttemptOutcome.LOST
    client.ResumeQueue(name=queue)
    other = make_worker(shared, [queue], concurrency=1) if lose is lose_by_vanishing else worker
    delivery = other.take()
    assert (delivery.job_id, delivery.delivery, delivery.attempt) == (job.id, 2, 1)
    other.succeed(delivery)
    assert other.take().job_id == behind.id


def test_lost_waits_for_its_back_off(shared, make_worker, queue):
    worker, delivery = running(shared, make_worker, queue, retry_policy=SLOW_RETRY)
    lose_the_delivery(worker, delivery)
    job = shared.wait_for_state(delivery.job_id, JobState.RETRYING)
    assert (job.error.type, job.lost_count) == ("WORKER_LOST", 1)
    assert api.unix(job.run_at) - api.unix(job.history[-1].finished_at) == pytest.approx(600, abs=0.01)


@pytest.mark.parametrize("lose", [lose_by_vanishing, lose_the_delivery])
def test_the_third_loss_is_worker_lost(shared, make_worker, queue, lose):
    client = shared.client
    job = client.create(queue=queue, retry_policy=api.RetryPolicy(
        max_attempts=1, kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05)))
    for _ in range(3):
        worker = make_worker(shared, [queue])
        delivery = worker.take()
        lose(worker, delivery)
        wait_until(lambda d=delivery: client.job(job.id).lost_count == d.delivery, "the loss counts")
        if lose is lose_the_delivery:
            worker.close()
    ended = client.wait(job.id)
    assert (ended.state, ended.error.type, ended.lost_count, ended.attempts) == (JobState.FAILED, "WORKER_LOST", 3, 0)
    assert [a.outcome for a in ended.history] == [AttemptOutcome.LOST] * 3


# ---- RUNNING: time-outs ----

def test_attempt_timeout_revokes_the_lease_and_keeps_the_slot(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=1)
    job = client.create(queue=queue, attempt_timeout=api.seconds(0.3), retry_policy=SLOW_RETRY)
    waiting = client.create(queue=queue)
    delivery = worker.take()
    assert api.unix(delivery.attempt_timeout) == pytest.approx(0.3)
    worker.obeys = False  # the handler does not stop
    worker.started(delivery)
    timed_out = shared.wait_for_state(job.id, JobState.RETRYING)
    assert (timed_out.error.type, timed_out.attempts) == ("TIMEOUT", 1)
    assert timed_out.history[-1].outcome == AttemptOutcome.TIMED_OUT
    wait_until(lambda: any(c.job_id == job.id and c.kind in (CommandKind.LOST, CommandKind.TERMINATE) for c in worker.commands),
               "the worker is told to stop it")
    never(lambda: not worker.deliveries.empty(), "its slot was given away while the handler still ran", 1.2)
    assert client.job(waiting.id).waiting_reason == WaitingReason.NO_FREE_SLOT
    worker.held.pop((job.id, 1), None)  # now it has stopped
    worker.fail(delivery, cancelled=True, wait=False)
    worker.beat()
    assert worker.take().job_id == waiting.id
    assert client.job(job.id).attempts == 1


def test_attempt_timeout_of_the_last_attempt_is_failed(shared, make_worker, queue):
    worker, delivery = running(shared, make_worker, queue, attempt_timeout=api.seconds(0.2),
                               retry_policy=api.RetryPolicy(max_attempts=1))
    worker.started(delivery)
    ended = shared.client.wait(delivery.job_id)
    assert (ended.state, ended.error.type) == (JobState.FAILED, "TIMEOUT")


def test_attempt_timeout_runs_from_the_started_report(timed_server, clock, make_worker, queue):
    worker, delivery = running(timed_server, make_worker, queue, attempt_timeout=api.seconds(1000), retry_policy=SLOW_RETRY)
    clock.advance(700)
    worker.started(delivery, clock.now())
    clock.advance(600)
    never(lambda: timed_server.client.job(delivery.job_id).state != JobState.RUNNING, "timed out before its time of work was over", 1.2)
    clock.advance(401)
    timed_server.wait_for_state(delivery.job_id, JobState.RETRYING)


def test_attempt_timeout_of_half_an_hour_by_default(timed_server, clock, make_worker):
    worker = make_worker(timed_server)
    job = timed_server.client.create(retry_policy=SLOW_RETRY)
    forever = timed_server.client.create(attempt_timeout=api.seconds(0))
    taken = worker.take_many(2)
    assert api.unix(taken[0].attempt_timeout) == 1800
    assert not taken[1].HasField("attempt_timeout")
    for delivery in taken:
        worker.started(delivery, clock.now())
    clock.advance(1790)
    never(lambda: timed_server.client.job(job.id).state != JobState.RUNNING, "timed out too early", 1)
    clock.advance(11)
    assert timed_server.wait_for_state(job.id, JobState.RETRYING).error.type == "TIMEOUT"
    clock.advance(30 * 86400)
    never(lambda: timed_server.client.job(forever.id).state != JobState.RUNNING, "a job without time-out timed out", 1)


def test_running_past_its_total_deadline_is_failed_deadline(timed_server, clock, make_worker, queue):
    worker, delivery = running(timed_server, make_worker, queue, total_timeout=api.seconds(300))
    assert delivery.HasField("deadline")
    clock.advance(300)
    ended = timed_server.client.wait(delivery.job_id)
    assert (ended.state, ended.error.type) == (JobState.FAILED, "DEADLINE")
    wait_until(lambda: any(c.job_id == delivery.job_id for c in worker.commands), "the worker is told")


def test_the_deadline_covers_all_attempts(timed_server, clock, make_worker):
    client = timed_server.client
    make_worker(timed_server, handler=failing())
    job = client.create(total_timeout=api.seconds(600), retry_policy=api.RetryPolicy(
        max_attempts=1000, kind=api.BackoffKind.CONSTANT, initial=api.seconds(150), jitter=api.DoubleValue(value=0)))
    for attempts in (1, 2, 3, 4):
        wait_until(lambda n=attempts: (seen := client.job(job.id)).state == JobState.RETRYING and seen.attempts == n, f"failure {attempts}")
        clock.advance(150)
    ended = client.wait(job.id)
    assert (ended.state, ended.error.type, ended.attempts) == (JobState.EXPIRED, "DEADLINE", 4)


# ---- RUNNING, cancel requested ----

def end_failed(worker, delivery):
    """Fails."""
    worker.fail(delivery)


def end_snoozed(worker, delivery):
    """Snoozes."""
    worker.snooze(delivery, 60)


def end_released(worker, delivery):
    """Is released."""
    worker.release(delivery)


def end_unknown_task(worker, delivery):
    """Meets an unknown task."""
    worker.release(delivery, ReleaseReason.UNKNOWN_TASK)


def end_confirmed(worker, delivery):
    """Confirms."""
    worker.fail(delivery, "Cancelled", "stopped", cancelled=True)


def end_timed_out(worker, delivery):
    """Times out."""
    worker.started(delivery)


@pytest.mark.parametrize("event", [end_failed, end_timed_out, end_snoozed, end_released, lose_by_vanishing, lose_the_delivery,
                                   end_unknown_task, end_confirmed])
def test_running_with_cancel_requested_is_cancelled(shared, make_worker, queue, event):
    timeout = {"attempt_timeout": api.seconds(0.3)} if event is end_timed_out else {}
    worker, delivery = running(shared, make_worker, queue, **timeout)
    assert shared.client.CancelJob(id=delivery.job_id, reason="enough").accepted
    event(worker, delivery)
    ended = shared.client.wait(delivery.job_id)
    assert (ended.state, ended.error.message) == (JobState.CANCELLED, "enough")
    assert ended.history[-1].outcome == AttemptOutcome.CANCELLED


# ---- FAILED CANCELLED EXPIRED: retry ----

def ended_job(server, make_worker, queue, state, **spec):
    """A job that ended so."""
    client = server.client
    if state == JobState.CANCELLED:
        job = client.create(queue=queue, **spec)
        client.CancelJob(id=job.id)
    elif state == JobState.EXPIRED:
        job = client.create(queue=queue, expires_in=api.seconds(0.05), **spec)
        client.wait(job.id)
    else:
        job = client.create(queue=queue, expires_in=api.seconds(600), **spec)
        worker = make_worker(server, [queue])
        lose_the_delivery(worker, worker.take())
        worker.fail(worker.take(), permanent=True)
        worker.close()
    assert client.job(job.id).state == state
    return job.id


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED])
def test_retry_starts_a_new_generation(shared, make_worker, queue, state):
    client = shared.client
    job_id = ended_job(shared, make_worker, queue, state, total_timeout=api.seconds(900), retry_policy=FAST_RETRY)
    before = client.job(job_id)
    retried = client.RetryJob(id=job_id).job
    assert (retried.state, retried.generation) == (JobState.PENDING, 2)
    assert (retried.attempts, retried.lost_count, retried.deliveries) == (0, 0, before.deliveries)
    assert not retried.HasField("expires_at")
    assert not retried.HasField("finished_at")
    assert api.unix(retried.deadline) == pytest.approx(api.unix(retried.run_at) + 900, abs=0.01)
    assert api.unix(retried.deadline) > api.unix(before.deadline)
    worker = make_worker(shared, [queue])
    delivery = worker.take()
    assert delivery.delivery == before.deliveries + 1
    worker.succeed(delivery)
    assert client.job(job_id).state == JobState.SUCCEEDED


def test_retry_of_others_is_refused(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    delivery = worker.take()
    with fails("FAILED_PRECONDITION", text="RUNNING"):
        client.RetryJob(id=job.id)
    worker.succeed(delivery)
    with fails("FAILED_PRECONDITION", text="SUCCEEDED"):
        client.RetryJob(id=job.id)
    waiting = client.create(queue=queue, delay=api.seconds(60))
    with fails("FAILED_PRECONDITION", text="SCHEDULED"):
        client.RetryJob(id=waiting.id)


def test_retry_with_its_unique_key_taken_names_the_holder(shared, make_worker, queue):
    client = shared.client
    key = api.UniqueKey(key="order-1")
    job_id = ended_job(shared, make_worker, queue, JobState.CANCELLED, unique_key=key)
    holder = client.create(queue=queue, unique_key=key)
    with fails("FAILED_PRECONDITION", text=holder.id):
        client.RetryJob(id=job_id)
    assert client.job(job_id).state == JobState.CANCELLED
    client.CancelJob(id=holder.id)
    assert client.RetryJob(id=job_id).job.state == JobState.PENDING
    with fails("ALREADY_EXISTS", text=job_id):
        client.create(queue=queue, unique_key=key)


def test_a_retried_job_can_fail_and_be_retried_again(shared, make_worker, queue):
    client = shared.client
    make_worker(shared, [queue], handler=lambda d: echo(d) if d.delivery == 3 else api.Failed(permanent=True))
    job = client.create(queue=queue)
    for generation in (1, 2):
        ended = client.wait(job.id)
        assert (ended.state, ended.generation) == (JobState.FAILED, generation)
        client.RetryJob(id=job.id)
    ended = client.wait(job.id)
    assert (ended.state, ended.generation, ended.attempts, ended.deliveries) == (JobState.SUCCEEDED, 3, 1, 3)
