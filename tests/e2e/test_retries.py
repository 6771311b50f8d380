# SPDX-License-Identifier: Apache-2.0
"""Failures: back-off, permanent errors, advice, snooze, dead letters and their retry."""
import pytest

from harness import api
from harness.api import BackoffKind, JobState, fails
from harness.wait import wait_until
from harness.worker import echo, failing

NO_JITTER = api.DoubleValue(value=0)


def policy(kind, initial_s, jitter=NO_JITTER, **fields):
    """A retry policy."""
    return api.RetryPolicy(kind=kind, initial=api.seconds(initial_s) if initial_s else None, jitter=jitter, **fields)


def delays_of(server, make_worker, queue, retry_policy, count):
    """The delays that the server plans after each of the first `count` failures, told by a clock that jumps over them."""
    client = server.client
    job = client.create(queue=queue, retry_policy=retry_policy)
    worker = make_worker(server, [queue])
    delays = []
    for _ in range(count):
        worker.fail(worker.take())
        retrying = client.job(job.id)
        assert retrying.state == JobState.RETRYING
        delays.append(api.unix(retrying.run_at) - api.unix(retrying.history[-1].finished_at))
        server.clock.advance(delays[-1])
    return delays


@pytest.mark.parametrize("name, retry_policy, expected", [
    ("exponential", policy(BackoffKind.EXPONENTIAL, 1, max_attempts=9), [1, 2, 4, 8, 16]),
    ("exponential by 3", policy(BackoffKind.EXPONENTIAL, 0.5, multiplier=3, max_attempts=9), [0.5, 1.5, 4.5, 13.5]),
    ("capped", policy(BackoffKind.EXPONENTIAL, 100, max=api.seconds(250), max_attempts=9), [100, 200, 250, 250]),
    ("capped at an hour", policy(BackoffKind.EXPONENTIAL, 1000, max_attempts=9), [1000, 2000, 3600, 3600]),
    ("linear", policy(BackoffKind.LINEAR, 10, max_attempts=9), [10, 20, 30, 40]),
    ("constant", policy(BackoffKind.CONSTANT, 7, max_attempts=9), [7, 7, 7]),
    ("list", policy(BackoffKind.LIST, 0, delays=[api.seconds(5), api.seconds(1), api.seconds(60)], max_attempts=9), [5, 1, 60, 60]),
], ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "")
def test_back_off(timed_server, make_worker, queue, name, retry_policy, expected):
    del name
    assert delays_of(timed_server, make_worker, queue, retry_policy, len(expected)) == pytest.approx(expected, abs=0.002)


def test_the_default_back_off_is_exponential_with_ten_percent_jitter(timed_server, make_worker, queue):
    delays = delays_of(timed_server, make_worker, queue, None, 3)
    for seen, nominal in zip(delays, (1, 2, 4)):
        assert nominal * 0.9 - 0.002 <= seen <= nominal * 1.1 + 0.002


@pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
def test_jitter_stays_within_its_bounds_and_spreads(shared, make_worker, queue, jitter):
    client = shared.client
    make_worker(shared, [queue], concurrency=100, handler=failing())
    ids = client.create_many([api.JobSpec(task="work", queue=queue, retry_policy=policy(
        BackoffKind.CONSTANT, 100, api.DoubleValue(value=jitter))) for _ in range(100)])
    wait_until(lambda: client.counts(queue) == {"retrying": 100}, "all failed once")
    delays = []
    for job_id in ids:
        job = client.job(job_id)
        delays.append(api.unix(job.run_at) - api.unix(job.history[-1].finished_at))
    low, high = 100 * (1 - jitter), 100 * (1 + jitter)
    assert all(low - 0.002 <= d <= high + 0.002 for d in delays)
    assert min(delays) < low + 0.2 * (high - low) and max(delays) > high - 0.2 * (high - low)


def test_it_runs_again_after_the_back_off(shared, make_worker, queue):
    make_worker(shared, [queue], handler=lambda d: failing()(d) if d.attempt < 3 else '"third time lucky"')
    job = shared.client.create(queue=queue, retry_policy=policy(BackoffKind.CONSTANT, 0.3))
    ended = shared.client.wait(job.id)
    assert (ended.state, ended.attempts, ended.deliveries) == (JobState.SUCCEEDED, 3, 3)
    assert ended.result.json == '"third time lucky"'
    gaps = [api.unix(b.finished_at) - api.unix(a.finished_at) for a, b in zip(ended.history, ended.history[1:])]
    assert all(0.299 <= gap < 3 for gap in gaps)


def test_back_off_goes_on_after_a_crash(server, make_worker):
    client = server.client
    worker = make_worker(server)
    job = client.create(retry_policy=policy(BackoffKind.CONSTANT, 1))
    worker.fail(worker.take())
    due = api.unix(client.job(job.id).run_at)
    server.restart()
    worker.close()
    make_worker(server, handler=echo)
    ended = client.wait(job.id)
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 2)
    assert api.unix(ended.finished_at) >= due


def test_permanent_makes_a_dead_letter_at_once(shared, make_worker, queue):
    make_worker(shared, [queue], handler=failing("BadAddress", "no such mailbox", permanent=True))
    job = shared.client.create(queue=queue)
    ended = shared.client.wait(job.id)
    assert (ended.state, ended.attempts, ended.error.type) == (JobState.FAILED, 1, "BadAddress")


@pytest.mark.parametrize("after_s", [0, 0.5, 7200])
def test_retry_after_overrides_the_back_off(shared, make_worker, queue, after_s):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create(queue=queue)
    delivery = worker.take()
    worker.fail(delivery, retry_after=api.seconds(after_s))
    seen = client.job(job.id)
    if after_s < 1:
        again = worker.take()
        assert (again.job_id, again.attempt) == (job.id, 2)
    else:
        assert seen.state == JobState.RETRYING
        assert api.unix(seen.run_at) - api.unix(seen.history[-1].finished_at) == pytest.approx(after_s, abs=0.01)


def test_a_failure_can_lower_and_raise_the_limit(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=1)
    fast = policy(BackoffKind.CONSTANT, 0.01)
    lowered = client.create(queue=queue, retry_policy=fast)
    worker.fail(worker.take(), max_attempts=1)
    assert client.wait(lowered.id).attempts == 1
    fast.max_attempts = 1
    raised = client.create(queue=queue, retry_policy=fast)
    worker.fail(worker.take(), max_attempts=2)
    worker.fail(worker.take())
    ended = client.wait(raised.id)
    assert (ended.state, ended.attempts) == (JobState.FAILED, 2)


def test_snooze_comes_back_and_does_not_count(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = shared.client.create(queue=queue, retry_policy=api.RetryPolicy(max_attempts=1))
    for number in (1, 2, 3):
        delivery = worker.take()
        assert (delivery.delivery, delivery.attempt) == (number, 1)
        worker.snooze(delivery, 0.1)
    worker.succeed(worker.take())
    ended = shared.client.job(job.id)
    assert (ended.state, ended.attempts, ended.deliveries) == (JobState.SUCCEEDED, 1, 4)


# ---- who sets the policy ----

def test_policy_precedence(shared, make_worker, queue):
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(
        retry_policy=api.RetryPolicy(max_attempts=11, initial=api.seconds(11)), attempt_timeout=api.seconds(1100)))
    declared = api.WorkerTask(name="declared", retry_policy=api.RetryPolicy(max_attempts=22), attempt_timeout=api.seconds(2200))
    worker = make_worker(shared, [queue], tasks=[declared, "plain"])

    def limits(task, **spec):
        client.create(task, queue=queue, **spec)
        delivery = worker.take()
        return delivery.max_attempts, api.unix(delivery.attempt_timeout), delivery

    assert limits("plain")[:2] == (11, 1100)
    assert limits("declared")[:2] == (22, 2200)
    assert limits("declared", retry_policy=api.RetryPolicy(max_attempts=33))[:2] == (33, 2200)
    assert limits("declared", attempt_timeout=api.seconds(3300))[:2] == (22, 3300)
    # Field by field: the limit is the worker's, the first delay the queue's.
    _, _, delivery = limits("declared")
    worker.fail(delivery)
    job = client.job(delivery.job_id)
    assert 11 * 0.9 - 0.01 <= api.unix(job.run_at) - api.unix(job.history[-1].finished_at) <= 11 * 1.1 + 0.01


def test_the_server_has_defaults(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    shared.client.create(queue=queue)
    delivery = worker.take()
    assert (delivery.max_attempts, api.unix(delivery.attempt_timeout)) == (4, 1800)


def test_the_policy_of_the_session_that_leases_counts(shared, make_worker, queue):
    fast = api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(0.05))
    first = make_worker(shared, [queue], tasks=[api.WorkerTask(name="t", retry_policy=api.RetryPolicy(max_attempts=5))])
    job = shared.client.create("t", queue=queue, retry_policy=fast)
    delivery = first.take()
    assert delivery.max_attempts == 5
    second = make_worker(shared, [queue], tasks=[api.WorkerTask(name="t", retry_policy=api.RetryPolicy(max_attempts=2))])
    shared.client.QuietWorker(session_id=first.session_id)
    first.fail(delivery)
    again = second.take()
    assert again.max_attempts == 2
    second.fail(again)
    assert shared.client.wait(job.id).attempts == 2


def limits_told(client, job_id):
    """max_attempts, wherever a job is shown."""
    views = (api.View.BASIC, api.View.FULL)
    told = {client.GetJob(id=job_id, view=view).job.max_attempts for view in views}
    told |= {job.max_attempts for view in views for job in client.list(ids=[job_id], view=view)}
    watch = client.WatchJobs(filter=api.JobFilter(ids=[job_id]))
    told.add(watch.next().job.max_attempts)
    watch.cancel()
    return told


def test_the_limit_that_counts_is_told_everywhere(server, make_worker):
    client = server.client
    declared = api.WorkerTask(name="declared", retry_policy=api.RetryPolicy(max_attempts=2, initial=api.seconds(0.01)))
    own = client.create("own", retry_policy=api.RetryPolicy(max_attempts=7)).id
    theirs = client.create("declared").id
    assert (limits_told(client, own), limits_told(client, theirs)) == ({7}, {4})
    server.restart()  # so that nothing is known by accident
    assert (limits_told(client, own), limits_told(client, theirs)) == ({7}, {4})
    client.UpdateJob(id=own, retry_policy=api.RetryPolicy(initial=api.seconds(1)))
    assert limits_told(client, own) == {7}
    client.UpdateJob(id=own, retry_policy=api.RetryPolicy(max_attempts=9))
    assert limits_told(client, own) == {9}
    with make_worker(server, tasks=[declared]) as worker:
        worker.fail(worker.take())
        assert limits_told(client, theirs) == {2}  # between the attempts
        delivery = worker.take()
        assert limits_told(client, theirs) == {2}
        worker.fail(delivery)
    server.restart()
    job = client.job(theirs)
    assert (job.state, job.attempts, limits_told(client, theirs)) == (JobState.FAILED, 2, {2})


# ---- dead letters ----

def test_dead_letters_are_listed_with_their_reasons_and_grouped(shared, make_worker, queue):
    client = shared.client
    trace = 'Traceback:\n  File "mail.py", line {}, in send\n'
    worker = make_worker(shared, [queue], concurrency=1)
    groups = []
    for kind, line in (("Timeout", 10), ("Timeout", 99), ("Refused", 10)):
        job = client.create("send", queue=queue)
        worker.fail(worker.take(), kind, f"{kind} at {line}", trace.format(line), permanent=True)
        groups.append(client.job(job.id).error.fingerprint)
    # The same fault has the same fingerprint: task, type and top frame, not the line.
    assert groups[0] == groups[1] != groups[2]
    dead = client.list(queues=[queue], states=[JobState.FAILED])
    assert sorted(j.error.message for j in dead) == ["Refused at 10", "Timeout at 10", "Timeout at 99"]
    assert client.counts(queue) == {"failed": 3}


def test_retry_alone(shared, make_worker, queue):
    client = shared.client
    make_worker(shared, [queue], handler=lambda d: failing(permanent=True)(d) if d.delivery == 1 else "1")
    job = client.create(queue=queue)
    assert client.wait(job.id).state == JobState.FAILED
    client.RetryJob(id=job.id)
    ended = client.wait(job.id)
    assert (ended.state, ended.generation, ended.attempts) == (JobState.SUCCEEDED, 2, 1)
    assert not ended.HasField("error")


def test_retry_by_filter(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], concurrency=50, handler=failing("Down", permanent=True))
    ids = client.create_many([api.JobSpec(task="work", queue=queue) for _ in range(40)])
    others = client.create_many([api.JobSpec(task="other", queue=queue) for _ in range(5)])
    cancelled = client.create(queue=queue, delay=api.seconds(60))
    client.CancelJob(id=cancelled.id)
    wait_until(lambda: client.counts(queue) == {"failed": 45, "cancelled": 1}, "all failed")
    fingerprint = client.job(ids[0]).error.fingerprint
    worker.handler = echo
    answer = client.RetryJobs(filter=api.JobFilter(queues=[queue], error_fingerprint=fingerprint))
    assert (answer.retried, answer.refused, answer.more) == (40, 0, False)
    wait_until(lambda: client.counts(queue) == {"succeeded": 40, "failed": 5, "cancelled": 1}, "those of the group ran")
    # Without states only dead letters start anew.
    assert client.RetryJobs(filter=api.JobFilter(queues=[queue])).retried == 5
    assert all(client.wait(i).state == JobState.SUCCEEDED for i in others)
    answer = client.RetryJobs(filter=api.JobFilter(queues=[queue], states=[JobState.CANCELLED]))
    assert answer.retried == 1
    assert client.wait(cancelled.id).state == JobState.SUCCEEDED


def test_retry_by_filter_takes_each_job_once(shared, make_worker, queue):
    client = shared.client
    ids = client.create_many([api.JobSpec(task="work", queue=queue)] * 2000)
    make_worker(shared, [queue], concurrency=500, handler=failing(permanent=True))
    wait_until(lambda: client.counts(queue).get("failed") == 2000, "all have failed", 60)
    answer = client.RetryJobs(filter=api.JobFilter(queues=[queue]), timeout_s=60)
    assert (answer.retried, answer.more) == (2000, False)
    wait_until(lambda: client.counts(queue).get("failed") == 2000, "all have failed again", 60)
    assert {j.generation for j in client.list(ids=ids[:1000])} == {2}


def test_retry_by_filter_counts_those_whose_key_is_taken(shared, queue):
    client = shared.client
    key = api.UniqueKey(key="k")
    old = client.create(queue=queue, unique_key=key)
    client.CancelJob(id=old.id)
    client.create(queue=queue, unique_key=key)
    answer = client.RetryJobs(filter=api.JobFilter(queues=[queue], states=[JobState.CANCELLED]))
    assert (answer.retried, answer.refused) == (0, 1)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.SUCCEEDED, JobState.RUNNING])
def test_retry_by_filter_takes_only_states_that_can_be_retried(shared, queue, state):
    shared.client.create(queue=queue)
    with fails("INVALID_ARGUMENT", field="filter.states[1]"):
        shared.client.RetryJobs(filter=api.JobFilter(queues=[queue], states=[JobState.FAILED, state]))
    assert shared.client.counts(queue) == {"pending": 1}


def test_bulk_calls_do_ten_thousand_and_say_more(shared, queue):
    client = shared.client
    for _ in range(11):
        client.create_many([api.JobSpec(task="work", queue=queue)] * 1000)
    first = client.CancelJobs(filter=api.JobFilter(queues=[queue], states=[JobState.PENDING]))
    assert (first.cancelled, first.more) == (10_000, True)
    second = client.CancelJobs(filter=api.JobFilter(queues=[queue], states=[JobState.PENDING]))
    assert (second.cancelled, second.more) == (1000, False)
    assert client.counts(queue) == {"cancelled": 11_000}


def test_a_back_off_that_begins_as_another_timer_is_due(timed_server, clock, make_worker, queue):
    client = timed_server.client
    worker = make_worker(timed_server, [queue], concurrency=2)
    slow = client.create(queue=queue, attempt_timeout=api.seconds(60),
                         retry_policy=api.RetryPolicy(kind=BackoffKind.CONSTANT, initial=api.seconds(0.1)))
    worker.started(worker.take())
    later = client.create(queue=queue + "-nobody", delay=api.seconds(60))
    clock.advance(61)
    again = worker.take()
    assert (again.job_id, again.attempt) == (slow.id, 2)
    timed_server.wait_for_state(later.id, JobState.PENDING)
