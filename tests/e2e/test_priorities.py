# SPDX-License-Identifier: Apache-2.0
"""Fire-and-forget: every priority runs, in the right order, and nobody waits behind work that nobody does."""
import collections
import time

import pytest

from harness import api
from harness.api import JobPriority, JobState, WaitingReason
from harness.wait import PATIENCE, wait_until
from harness.worker import HOLD, echo


@pytest.mark.parametrize("transport", ["ws", "grpc"])
@pytest.mark.parametrize("priority", [JobPriority.LOW, JobPriority.NORMAL, JobPriority.HIGH, JobPriority.CRITICAL])
def test_fire_and_forget(shared, make_worker, queue, priority, transport):
    make_worker(shared, [queue], handler=echo, transport=transport)
    job = shared.client.create(queue=queue, priority=priority, payload=api.json_payload('{"to": "a@example.org"}'))
    ended = shared.client.wait(job.id)
    assert ended.state == JobState.SUCCEEDED
    assert ended.priority == priority
    assert ended.result.json == '{"to": "a@example.org"}'
    assert ended.deliveries == ended.attempts == 1


def test_defaults(client, make_worker, server):
    before = time.time()
    job = client.create("send_email")
    assert (job.queue, job.priority, job.state, job.generation) == ("default", JobPriority.NORMAL, JobState.PENDING, 1)
    assert before - 1 < api.unix(job.created_at) < time.time() + 1
    make_worker(server, handler=echo)
    ended = client.wait(job.id)
    assert (ended.state, ended.max_attempts) == (JobState.SUCCEEDED, 4)
    assert api.unix(ended.created_at) <= api.unix(ended.started_at) <= api.unix(ended.finished_at)


def test_unset_means_normal(shared, queue):
    assert shared.client.create(queue=queue, priority=JobPriority.UNSPECIFIED).priority == JobPriority.NORMAL


def test_higher_priority_first_then_oldest(shared, make_worker, queue):
    client = shared.client
    wanted = {}
    for priority in (JobPriority.LOW, JobPriority.NORMAL, JobPriority.HIGH, JobPriority.CRITICAL):
        wanted[priority] = [client.create(queue=queue, priority=priority).id for _ in range(3)]
    worker = make_worker(shared, [queue], concurrency=1)
    order = []
    for _ in range(12):
        delivery = worker.take()
        order.append(delivery.job_id)
        worker.succeed(delivery)
    assert order == [i for p in (JobPriority.CRITICAL, JobPriority.HIGH, JobPriority.NORMAL, JobPriority.LOW) for i in wanted[p]]


def test_order_holds_over_tasks_of_one_queue(shared, make_worker, queue):
    ids = [shared.client.create(task=f"task{i % 3}", queue=queue).id for i in range(9)]
    worker = make_worker(shared, [queue], concurrency=1)
    order = []
    for _ in range(9):
        delivery = worker.take()
        order.append(delivery.job_id)
        worker.succeed(delivery)
    assert order == ids


@pytest.mark.parametrize("mode", [api.QueueMode.STRICT, api.QueueMode.WEIGHTED])
def test_critical_takes_the_next_slot_of_a_queue_full_of_low(shared, make_worker, queue, mode):
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(mode=mode))
    client.create_many([api.JobSpec(task="work", queue=queue, priority=JobPriority.LOW) for _ in range(2000)])
    worker = make_worker(shared, [queue], concurrency=2)
    busy = worker.take_many(2)
    critical = client.create(queue=queue, priority=JobPriority.CRITICAL)
    worker.succeed(busy[0])
    assert worker.take().job_id == critical.id
    client.PurgeQueue(name=queue)


def test_critical_of_another_queue_goes_before_a_heavier_queue(shared, make_worker, queue):
    client = shared.client
    heavy, light = queue + "-heavy", queue + "-light"
    client.create_many([api.JobSpec(task="work", queue=heavy, priority=JobPriority.HIGH) for _ in range(50)])
    worker = make_worker(shared, [(heavy, 1000), (light, 1)], concurrency=1)
    busy = worker.take()
    critical = client.create(queue=light, priority=JobPriority.CRITICAL)
    worker.succeed(busy)
    assert worker.take().job_id == critical.id


def test_weighted_mode_starves_nobody(shared, make_worker, queue):
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(mode=api.QueueMode.WEIGHTED))
    for priority in (JobPriority.LOW, JobPriority.NORMAL, JobPriority.HIGH):
        client.create_many([api.JobSpec(task="work", queue=queue, priority=priority) for _ in range(100)])
    worker = make_worker(shared, [queue], concurrency=1)
    seen = collections.Counter()
    for _ in range(100):
        delivery = worker.take()
        seen[delivery.priority] += 1
        worker.succeed(delivery)
    # HIGH 6 : NORMAL 3 : LOW 1, give or take the round that is under way.
    assert abs(seen[JobPriority.HIGH] - 60) <= 6
    assert abs(seen[JobPriority.NORMAL] - 30) <= 3
    assert abs(seen[JobPriority.LOW] - 10) <= 2


def test_weighted_mode_starves_nobody_beside_another_queue(shared, make_worker, queue):
    """The queue shares by what it was given, not by how often it competed for a slot."""
    client = shared.client
    other = queue + "-other"
    client.UpdateQueue(name=queue, settings=api.QueueSettings(mode=api.QueueMode.WEIGHTED))
    client.create_many([api.JobSpec(task="work", queue=other, priority=JobPriority.HIGH)] * 150)
    for priority in (JobPriority.LOW, JobPriority.NORMAL, JobPriority.HIGH):
        client.create_many([api.JobSpec(task="work", queue=queue, priority=priority)] * 100)
    seen = []
    make_worker(shared, [queue, other], concurrency=1, handler=lambda d: seen.append((d.queue, d.priority)))
    wait_until(lambda: sum(1 for name, _ in seen if name == queue) >= 100, "a hundred of the weighted queue")
    shares = collections.Counter([priority for name, priority in seen if name == queue][:100])
    assert abs(shares[JobPriority.HIGH] - 60) <= 6, shares
    assert abs(shares[JobPriority.LOW] - 10) <= 2, shares


def test_strict_mode_is_strict(shared, make_worker, queue):
    client = shared.client
    client.create_many([api.JobSpec(task="work", queue=queue, priority=JobPriority.LOW) for _ in range(20)])
    client.create_many([api.JobSpec(task="work", queue=queue, priority=JobPriority.HIGH) for _ in range(40)])
    order = []
    worker = make_worker(shared, [queue], concurrency=1)
    for _ in range(60):
        delivery = worker.take()
        order.append(delivery.priority)
        worker.succeed(delivery)
    assert order == [JobPriority.HIGH] * 40 + [JobPriority.LOW] * 20


def test_queues_share_a_worker_by_their_weights(shared, make_worker, queue):
    client = shared.client
    first, second = queue + "-a", queue + "-b"
    for name in (first, second):
        client.create_many([api.JobSpec(task="work", queue=name) for _ in range(60)])
    worker = make_worker(shared, [(first, 3), (second, 1)], concurrency=1)
    seen = collections.Counter()
    for _ in range(40):
        delivery = worker.take()
        seen[delivery.queue] += 1
        worker.succeed(delivery)
    assert abs(seen[first] - 30) <= 4, seen


def test_jobs_that_nobody_handles_stand_in_nobodys_way(client, server, make_worker):
    spec = api.JobSpec(task="nobody_does_this")
    in_front = []
    for _ in range(100):
        in_front += client.create_many([spec] * 1000)
    make_worker(server, tasks=["work"], handler=echo)
    job = client.create("work")
    cpu_s = server.cpu_s()
    assert client.wait(job.id).state == JobState.SUCCEEDED
    assert server.cpu_s() - cpu_s < 2 * PATIENCE
    for job_id in (in_front[0], in_front[50_000], in_front[-1]):
        seen = client.job(job_id)
        assert (seen.state, seen.waiting_reason) == (JobState.PENDING, WaitingReason.NO_WORKER_FOR_TASK)
    assert client.counts("default") == {"pending": 100_000, "succeeded": 1}
    listed = client.ListJobs(filter=api.JobFilter(states=[JobState.PENDING]), page_size=10).jobs
    assert {j.waiting_reason for j in listed} == {WaitingReason.NO_WORKER_FOR_TASK}
    # And they do run as soon as somebody comes who knows the task.
    late = make_worker(server, tasks=["nobody_does_this"], concurrency=1000, handler=echo)
    assert client.wait(in_front[0]).state == JobState.SUCCEEDED
    wait_until(lambda: sum(late.taken.values()) > 1000, "the backlog moves")


def test_a_turn_deals_to_the_session_with_the_largest_free_share(shared, make_worker, queue):
    small = make_worker(shared, [queue], concurrency=2, handler=lambda _: HOLD)
    large = make_worker(shared, [queue], concurrency=8, handler=lambda _: HOLD)
    assert shared.client.GetQueue(name=queue).queue.workers == 2
    shared.client.create_many([api.JobSpec(task="work", queue=queue) for _ in range(5)])
    wait_until(lambda: len(small.held) + len(large.held) == 5, "all delivered")
    assert (len(small.held), len(large.held)) == (1, 4)
