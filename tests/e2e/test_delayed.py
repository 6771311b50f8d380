# SPDX-License-Identifier: Apache-2.0
"""Delayed jobs: after a while, at a time, a week ahead, across a restart."""
import time

import pytest

from harness import api
from harness.api import JobState, WaitingReason
from harness.wait import never, wait_until
from harness.worker import echo

DAY_S = 86400


def test_in_two_seconds(shared, make_worker, queue):
    make_worker(shared, [queue], handler=echo)
    job = shared.client.create(queue=queue, delay=api.seconds(2))
    assert (job.state, job.waiting_reason) == (JobState.SCHEDULED, WaitingReason.SCHEDULED)
    assert api.unix(job.run_at) - api.unix(job.created_at) == pytest.approx(2, abs=0.002)
    ended = shared.client.wait(job.id)
    assert ended.state == JobState.SUCCEEDED
    assert api.unix(ended.finished_at) - api.unix(ended.created_at) >= 2


def test_at_a_time(timed_server, clock, make_worker):
    make_worker(timed_server, handler=echo)
    at = round(clock.now() + 600, 3)
    job = timed_server.client.create(run_at=api.timestamp(at))
    assert job.state == JobState.SCHEDULED
    assert api.unix(job.run_at) == pytest.approx(at, abs=0.001)
    assert timed_server.client.counts("default") == {"scheduled": 1}
    clock.advance(600)
    assert api.unix(timed_server.client.wait(job.id).finished_at) >= at


def test_a_time_in_the_past_is_now(shared, make_worker, queue):
    make_worker(shared, [queue], handler=echo)
    job = shared.client.create(queue=queue, run_at=api.timestamp(time.time() - 3600))
    assert shared.client.wait(job.id).state == JobState.SUCCEEDED


def test_no_delay_is_now(shared, queue):
    assert shared.client.create(queue=queue, delay=api.seconds(0)).state == JobState.PENDING


def test_seven_days_ahead(timed_server, clock, make_worker):
    client = timed_server.client
    make_worker(timed_server, handler=echo)
    job = client.create("request_review", delay=api.seconds(7 * DAY_S))
    assert api.unix(job.run_at) == pytest.approx(clock.now() + 7 * DAY_S, abs=5)
    clock.advance(7 * DAY_S - 60)
    never(lambda: client.job(job.id).state != JobState.SCHEDULED, "ran a minute too early", 1.5)
    clock.advance(60)
    ended = client.wait(job.id)
    assert ended.state == JobState.SUCCEEDED
    assert api.unix(ended.finished_at) == pytest.approx(api.unix(job.run_at), abs=20)


@pytest.mark.parametrize("kill", [True, False], ids=["kill", "stop"])
def test_across_a_restart(server, make_worker, kill):
    client = server.client
    after = client.create(delay=api.seconds(4))
    during = client.create(delay=api.seconds(0.3))
    if kill:
        server.kill()
    else:
        server.stop()
    wait_until(lambda: time.time() > api.unix(during.run_at) + 0.1, "its time has passed while the server was down")
    server.start()
    make_worker(server, handler=echo)
    assert client.wait(during.id).state == JobState.SUCCEEDED
    ended = client.wait(after.id)
    assert ended.state == JobState.SUCCEEDED
    assert api.unix(ended.finished_at) >= api.unix(after.run_at)
    assert ended.deliveries == 1


def test_seven_days_ahead_across_a_restart(timed_server, clock, make_worker):
    client = timed_server.client
    job = client.create(delay=api.seconds(7 * DAY_S))
    timed_server.kill()
    clock.advance(8 * DAY_S)
    timed_server.start()
    make_worker(timed_server, handler=echo)
    assert client.wait(job.id).state == JobState.SUCCEEDED


def test_many_of_one_moment(shared, make_worker, queue):
    client = shared.client
    at = api.timestamp(time.time() + 1.5)
    ids = client.create_many([api.JobSpec(task="work", queue=queue, run_at=at) for _ in range(3000)])
    worker = make_worker(shared, [queue], concurrency=500, handler=echo)
    wait_until(lambda: client.counts(queue) == {"succeeded": 3000}, "all have run")
    assert set(worker.taken) == set(ids)
    assert set(worker.taken.values()) == {1}


def test_due_jobs_run_in_the_order_of_their_times(timed_server, clock, make_worker):
    client = timed_server.client
    now = clock.now()
    late = client.create(run_at=api.timestamp(now + 1200))
    early = client.create(run_at=api.timestamp(now + 800))
    clock.advance(1200)
    wait_until(lambda: client.counts("default") == {"pending": 2}, "both ready")
    worker = make_worker(timed_server, concurrency=2)
    assert [d.job_id for d in worker.take_many(2)] == [early.id, late.id]


def test_a_delayed_job_can_be_cancelled_and_moved(timed_server, clock, make_worker):
    client = timed_server.client
    make_worker(timed_server, handler=echo)
    cancelled = client.create(delay=api.seconds(DAY_S))
    assert client.CancelJob(id=cancelled.id).accepted
    assert client.job(cancelled.id).state == JobState.CANCELLED
    moved = client.create(delay=api.seconds(DAY_S))
    sooner = client.UpdateJob(id=moved.id, run_at=api.timestamp(clock.now() + 3600)).job
    assert sooner.state == JobState.SCHEDULED
    clock.advance(3601)
    assert client.wait(moved.id).state == JobState.SUCCEEDED
    now = client.create(delay=api.seconds(DAY_S))
    client.UpdateJob(id=now.id, run_at=api.timestamp(clock.now() - 5))
    assert client.wait(now.id).state == JobState.SUCCEEDED
