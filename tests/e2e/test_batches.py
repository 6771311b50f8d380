# SPDX-License-Identifier: Apache-2.0
"""Batches: many jobs counted together."""
import threading

import pytest

from harness import api
from harness.api import BatchState, CommandKind, JobState, fails
from harness.wait import never, wait_until
from harness.worker import HOLD, echo, failing


def items(queue, count, **fields):
    """Items of a batch."""
    return [api.JobSpec(task="send", queue=queue, **fields) for _ in range(count)]


def chunk(batch_id, number, specs, last=False):
    """One chunk."""
    return api.AddBatchItemsRequest(batch_id=batch_id, chunk=number, items=specs, last=last)


def add(client, *chunks):
    """Sends chunks over one stream and returns the answers."""
    return list(client.AddBatchItems(iter(chunks), timeout_s=60))


def get(client, batch_id):
    """The batch as it is now; its counters always add up."""
    batch = client.GetBatch(id=batch_id).batch
    assert batch.pending + batch.succeeded + batch.failed + batch.cancelled + batch.expired == batch.total
    return batch


@pytest.mark.timeout(180)
def test_ten_thousand_in_chunks_one_of_them_sent_twice(shared, make_worker, queue):
    client = shared.client
    batch = client.CreateBatch(description="newsletter", on_success=api.JobSpec(task="all_good", queue=queue),
                               on_complete=api.JobSpec(task="all_done", queue=queue)).batch
    assert (batch.state, batch.total, batch.description) == (BatchState.OPEN, 0, "newsletter")
    specs = items(queue, 1000, priority=api.JobPriority.LOW)
    numbers = [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10]
    answers = add(client, *(chunk(batch.id, n, specs, last=n == 10) for n in numbers))
    assert [(a.chunk, a.repeated_chunk) for a in answers] == [(n, i == 4) for i, n in enumerate(numbers)]
    assert [len(a.outcomes) for a in answers] == [1000] * 4 + [0] + [1000] * 6
    assert answers[-1].total == 10_000
    ids = {o.id for a in answers for o in a.outcomes}
    assert len(ids) == 10_000
    sealed = get(client, batch.id)
    assert (sealed.state, sealed.total, sealed.pending, sealed.last_chunk) == (BatchState.SEALED, 10_000, 10_000, 10)
    progress = []
    worker = make_worker(shared, [queue], concurrency=500, handler=echo)

    def ended():
        now = get(client, batch.id)
        progress.append(now.succeeded)
        return now if now.pending == 0 else None

    final = wait_until(ended, "the batch's end", 90)
    assert progress == sorted(progress) and any(0 < p < 10_000 for p in progress)
    assert (final.state, final.succeeded, final.total) == (BatchState.SUCCEEDED, 10_000, 10_000)
    assert final.HasField("finished_at")
    for callback, task in ((final.on_success_job_id, "all_good"), (final.on_complete_job_id, "all_done")):
        assert client.wait(callback).task == task
        assert [j.id for j in client.list(queues=[queue], tasks=[task])] == [callback]
        assert worker.taken[callback] == 1
    assert set(worker.taken.values()) == {1} and len(worker.taken) == 10_002


@pytest.mark.parametrize("rule", [api.UniqueRule.REJECT, api.UniqueRule.RETURN_EXISTING])
def test_items_behind_one_that_is_no_member_have_ids_of_their_own(shared, make_worker, queue, rule):
    client = shared.client
    key = api.UniqueKey(key="taken", rule=rule)
    client.create(task="send", queue=queue, unique_key=key)
    first = client.CreateBatch(items=[api.JobSpec(task="send", queue=queue, unique_key=key)] + items(queue, 2))
    added = add(client, chunk(first.batch.id, 2, items(queue, 3), last=True))[0]
    assert [o.HasField("error") for o in added.outcomes] == [False] * 3
    members = {o.id for o in [*first.outcomes[1:], *added.outcomes]}
    assert (len(members), added.total) == (5, 5)
    assert {j.id for j in client.list(batch_id=first.batch.id)} == members
    make_worker(shared, [queue], handler=echo)
    assert client.WaitBatch(id=first.batch.id).batch.succeeded == 5


def test_one_call_makes_and_seals_a_batch(shared, make_worker, queue):
    client = shared.client
    answer = client.CreateBatch(items=items(queue, 5), seal=True)
    assert [o.HasField("error") for o in answer.outcomes] == [False] * 5
    assert (answer.batch.state, answer.batch.total, answer.batch.last_chunk) == (BatchState.SEALED, 5, 1)
    assert all(client.job(o.id).batch_id == answer.batch.id for o in answer.outcomes)
    assert {j.id for j in client.list(batch_id=answer.batch.id)} == {o.id for o in answer.outcomes}
    worker = make_worker(shared, [queue], handler=echo)
    assert client.WaitBatch(id=answer.batch.id).batch.state == BatchState.SUCCEEDED
    assert len(worker.taken) == 5


def test_members_start_before_the_batch_is_sealed_and_it_does_not_end(shared, make_worker, queue):
    client = shared.client
    make_worker(shared, [queue], handler=echo)
    batch = client.CreateBatch(items=items(queue, 3)).batch
    wait_until(lambda: get(client, batch.id).succeeded == 3, "members run")
    assert get(client, batch.id).state == BatchState.OPEN
    assert client.WaitBatch(id=batch.id, timeout=api.seconds(0.2)).timed_out
    add(client, chunk(batch.id, 2, items(queue, 2)))
    assert client.SealBatch(id=batch.id).batch.total == 5
    assert client.WaitBatch(id=batch.id).batch.succeeded == 5


def test_a_gap_names_the_chunk_expected(shared, queue):
    client = shared.client
    batch = client.CreateBatch().batch
    add(client, chunk(batch.id, 1, items(queue, 1)))
    for wrong in (3, 7):
        with fails("INVALID_ARGUMENT", field="chunk", text="2"):
            add(client, chunk(batch.id, wrong, items(queue, 1)))
    with fails("INVALID_ARGUMENT", field="chunk"):
        add(client, chunk(batch.id, 0, items(queue, 1)))
    assert get(client, batch.id).total == 1
    assert [a.total for a in add(client, chunk(batch.id, 2, items(queue, 1)))] == [2]


def test_chunks_go_on_over_another_stream(shared, queue):
    client = shared.client
    batch = client.CreateBatch().batch
    add(client, chunk(batch.id, 1, items(queue, 2)), chunk(batch.id, 2, items(queue, 2)))
    answers = add(client, chunk(batch.id, 1, items(queue, 2)), chunk(batch.id, 2, items(queue, 2)), chunk(batch.id, 3, items(queue, 2)))
    assert [(a.repeated_chunk, a.total) for a in answers] == [(True, 4), (True, 4), (False, 6)]
    assert get(client, batch.id).state == BatchState.OPEN


def test_a_chunk_is_taken_whole_or_not_at_all(shared, queue):
    client = shared.client
    batch = client.CreateBatch().batch
    specs = items(queue, 3)
    specs[1].task = "not a name"
    with fails("INVALID_ARGUMENT", field="items[1].task"):
        add(client, chunk(batch.id, 1, specs))
    now = get(client, batch.id)
    assert (now.total, now.last_chunk) == (0, 0)
    assert client.counts(queue) == {}


def test_members_of_a_chunk_that_is_refused_are_gone_for_those_who_watch(shared, queue):
    client = shared.client
    client.UpdateQueue(name=queue, settings=api.QueueSettings(max_length=api.UInt64Value(value=2)))
    watch = client.WatchJobs(filter=api.JobFilter(queues=[queue]))
    assert watch.next().initial_done
    with fails("RESOURCE_EXHAUSTED"):
        client.CreateBatch(items=[api.JobSpec(task="work", queue=queue)] * 3)
    events = [watch.next() for _ in range(4)]
    watch.cancel()
    there = {event.job.id for event in events if not event.deleted}
    assert len(there) == 2 and there == {event.job.id for event in events if event.deleted}


def test_failures_are_counted_and_only_on_complete_comes(shared, make_worker, queue):
    client = shared.client
    make_worker(shared, [queue], handler=lambda d: failing(permanent=True)(d) if d.payload.json == "1" else "0")
    specs = items(queue, 10) + items(queue, 4, payload=api.json_payload("1")) + items(queue, 1, delay=api.seconds(600))
    specs += items(queue, 1, delay=api.seconds(600), expires_in=api.seconds(0.2))
    answer = client.CreateBatch(items=specs, seal=True, on_success=api.JobSpec(task="all_good", queue=queue),
                                on_complete=api.JobSpec(task="all_done", queue=queue))
    client.CancelJob(id=answer.outcomes[14].id)
    ended = client.WaitBatch(id=answer.batch.id).batch
    assert (ended.state, ended.succeeded, ended.failed, ended.cancelled, ended.expired) == (BatchState.FAILED, 10, 4, 1, 1)
    assert ended.on_complete_job_id and not ended.on_success_job_id
    assert client.wait(ended.on_complete_job_id).state == JobState.SUCCEEDED
    assert client.list(queues=[queue], tasks=["all_good"]) == []


def test_cancel_in_the_middle(shared, make_worker, queue):
    client = shared.client
    batch = client.CreateBatch(on_complete=api.JobSpec(task="all_done", queue=queue + "-end")).batch
    add(client, *(chunk(batch.id, n, items(queue, 1000)) for n in (1, 2, 3)))
    worker = make_worker(shared, [queue], concurrency=10)
    done = worker.take_many(10)
    worker.report(*(api.Report(job_id=d.job_id, delivery=d.delivery, succeeded=api.Succeeded()) for d in done))
    held = worker.take_many(10)
    answer = client.CancelBatch(id=batch.id, reason="wrong text")
    assert answer.accepted
    for delivery in held:
        worker.wait_for_command(CommandKind.CANCEL, delivery.job_id)
    waiting = wait_until(lambda: get(client, batch.id) if get(client, batch.id).cancelled == 2980 else None, "the waiting ones are cancelled")
    assert (waiting.succeeded, waiting.pending) == (10, 10)
    for delivery in held[:9]:
        worker.fail(delivery, cancelled=True)
    worker.succeed(held[9])  # one finishes all the same
    ended = client.WaitBatch(id=batch.id).batch
    assert (ended.state, ended.succeeded, ended.cancelled, ended.total) == (BatchState.CANCELLED, 11, 2989, 3000)
    assert ended.on_complete_job_id
    assert not client.CancelBatch(id=batch.id).accepted
    assert worker.deliveries.empty()
    with fails("FAILED_PRECONDITION"):
        add(client, chunk(batch.id, 4, items(queue, 1)))


def test_zero_members_completes(shared, make_worker, queue):
    client = shared.client
    batch = client.CreateBatch(on_complete=api.JobSpec(task="all_done", queue=queue),
                               on_success=api.JobSpec(task="all_good", queue=queue)).batch
    never(lambda: get(client, batch.id).state != BatchState.OPEN, "ended before it was sealed", 0.2)
    ended = client.SealBatch(id=batch.id).batch
    assert (ended.state, ended.total) == (BatchState.SUCCEEDED, 0)
    assert client.WaitBatch(id=batch.id).batch.on_complete_job_id
    worker = make_worker(shared, [queue])
    assert {d.task for d in worker.take_many(2)} == {"all_done", "all_good"}
    empty = client.CreateBatch(seal=True).batch
    assert empty.state == BatchState.SUCCEEDED


def test_sealed_is_sealed(shared, queue):
    client = shared.client
    batch = client.CreateBatch(items=items(queue, 1)).batch
    add(client, chunk(batch.id, 2, items(queue, 1), last=True))
    assert get(client, batch.id).state == BatchState.SEALED
    with fails("FAILED_PRECONDITION", text="sealed"):
        add(client, chunk(batch.id, 3, items(queue, 1)))
    assert client.SealBatch(id=batch.id).batch.state == BatchState.SEALED
    # The answer to the last chunk may have been lost: sending it again is acknowledged.
    assert add(client, chunk(batch.id, 2, items(queue, 1), last=True))[0].repeated_chunk


def test_a_closed_stream_does_not_seal(shared, queue):
    client = shared.client
    batch = client.CreateBatch().batch
    requests = iter([chunk(batch.id, 1, items(queue, 1))])
    stream = client.AddBatchItems(requests)
    stream.next()
    stream.cancel()
    never(lambda: get(client, batch.id).state != BatchState.OPEN, "sealed by a closed stream", 0.5)


def test_sealed_after_an_hour_without_a_chunk(timed_server, clock):
    client = timed_server.client
    batch = client.CreateBatch(items=items("default", 1)).batch
    clock.advance(3000)
    add(client, chunk(batch.id, 2, items("default", 1)))
    clock.advance(3000)
    never(lambda: get(client, batch.id).state != BatchState.OPEN, "sealed too early", 1.2)
    clock.advance(700)
    wait_until(lambda: get(client, batch.id).state == BatchState.SEALED, "sealed")


def test_items_take_what_they_leave_unset_from_the_defaults(shared, queue):
    client = shared.client
    defaults = api.JobSpec(task="send", queue=queue, priority=api.JobPriority.HIGH, labels={"a": "1", "b": "1"},
                           retry_policy=api.RetryPolicy(max_attempts=9))
    answer = client.CreateBatch(defaults=defaults, items=[
        api.JobSpec(payload=api.json_payload("1")), api.JobSpec(task="other", priority=api.JobPriority.LOW, labels={"b": "2"})])
    first, second = (client.job(o.id) for o in answer.outcomes)
    assert (first.task, first.queue, first.priority, dict(first.labels), first.max_attempts) == (
        "send", queue, api.JobPriority.HIGH, {"a": "1", "b": "1"}, 9)
    assert (second.task, second.priority, dict(second.labels)) == ("other", api.JobPriority.LOW, {"a": "1", "b": "2"})
    (third,) = add(client, chunk(answer.batch.id, 2, [api.JobSpec(payload=api.json_payload("3"))]))[0].outcomes
    assert client.job(third.id).task == "send"


def test_defaults_must_have_no_payload(shared, queue):
    with fails("INVALID_ARGUMENT", field="defaults.payload"):
        shared.client.CreateBatch(defaults=api.JobSpec(task="send", queue=queue, payload=api.json_payload("1")))


def test_the_same_batch_sent_twice_is_one(shared, queue):
    client = shared.client
    batch_id = api.new_id()
    first = client.CreateBatch(id=batch_id, items=items(queue, 3))
    again = client.CreateBatch(id=batch_id, items=items(queue, 3))
    assert (first.existing, again.existing, again.batch.total) == (False, True, 3)
    with fails("ALREADY_EXISTS", text=batch_id):
        client.CreateBatch(id=batch_id, items=items(queue, 2))
    assert client.counts(queue) == {"pending": 3}


def test_a_member_that_exists_elsewhere_has_an_outcome_of_its_own(shared, queue):
    client = shared.client
    taken = client.create(queue=queue)
    specs = items(queue, 2)
    specs[1].id = taken.id
    answer = client.CreateBatch(items=specs)
    assert not answer.outcomes[0].HasField("error")
    failure = api.Failure.of_status(answer.outcomes[1].error)
    assert failure.code == "ALREADY_EXISTS"
    assert get(client, answer.batch.id).total == 1


def test_retrying_a_member_leaves_a_finished_batch_alone(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue], handler=lambda d: failing(permanent=True)(d) if d.delivery == 1 and d.task == "send" else "1")
    answer = client.CreateBatch(items=items(queue, 2), seal=True, on_complete=api.JobSpec(task="all_done", queue=queue))
    ended = client.WaitBatch(id=answer.batch.id).batch
    assert (ended.state, ended.failed) == (BatchState.FAILED, 2)
    client.wait(ended.on_complete_job_id)
    for outcome in answer.outcomes:
        client.RetryJob(id=outcome.id)
        assert client.wait(outcome.id).state == JobState.SUCCEEDED
    assert get(client, answer.batch.id) == ended
    assert len(client.list(queues=[queue], tasks=["all_done"])) == 1
    assert worker.taken[ended.on_complete_job_id] == 1


def test_a_batch_goes_on_after_a_crash(server, make_worker):
    client = server.client
    batch = client.CreateBatch(on_complete=api.JobSpec(task="all_done", queue="end")).batch
    add(client, chunk(batch.id, 1, items("default", 100)))
    worker = make_worker(server, concurrency=10)
    held = worker.take_many(10)
    server.restart()
    add(client, chunk(batch.id, 1, items("default", 100)), chunk(batch.id, 2, items("default", 100), last=True))
    worker.reconnect()
    for delivery in held:
        worker.succeed(delivery, wait=False)
    worker.handler = echo
    make_worker(server, concurrency=10, handler=echo)
    while not worker.deliveries.empty():
        worker.succeed(worker.take(), wait=False)
    ended = client.WaitBatch(id=batch.id).batch
    assert (ended.state, ended.succeeded, ended.total) == (BatchState.SUCCEEDED, 200, 200)
    assert len(client.list(queues=["end"])) == 1


def test_waiting_for_a_batch_ends_with_it(shared, make_worker, queue):
    client = shared.client
    batch = client.CreateBatch(items=items(queue, 2), seal=True).batch
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.WaitBatch(id=batch.id, timeout=api.seconds(30))))
    thread.start()
    make_worker(shared, [queue], handler=echo)
    thread.join(30)
    assert not answers[0].timed_out and answers[0].batch.state == BatchState.SUCCEEDED


def test_list_batches_by_page(client):
    ids = sorted(client.CreateBatch(items=items("default", 1)).batch.id for _ in range(7))
    seen, token = [], ""
    while True:
        page = client.ListBatches(page_size=3, page_token=token)
        seen += [b.id for b in page.batches]
        token = page.next_page_token
        if not token:
            break
    assert seen == ids


def test_losses_count_once(shared, make_worker, queue):
    policy = api.RetryPolicy(kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05))
    batch = shared.client.CreateBatch(items=items(queue, 5, retry_policy=policy), seal=True).batch
    broken = make_worker(shared, [queue], handler=lambda _: HOLD)
    broken.take_many(5)
    broken.vanish()
    make_worker(shared, [queue], handler=echo)
    ended = shared.client.WaitBatch(id=batch.id).batch
    assert (ended.state, ended.succeeded, ended.total) == (BatchState.SUCCEEDED, 5, 5)
