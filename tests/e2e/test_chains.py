# SPDX-License-Identifier: Apache-2.0
"""Chains: one step after the other, results handed on, failures told, retried and called back."""
import json
import threading
import time

import pytest

from harness import api
from harness.api import ChainState, CommandKind, JobState, WaitingReason, fails
from harness.wait import never, wait_until
from harness.worker import HOLD, echo, failing

ONE_ATTEMPT = api.RetryPolicy(max_attempts=1)


def step(queue, task, **fields):
    """A step."""
    return api.JobSpec(task=task, queue=queue, **fields)


def order_chain(queue, **fields):
    """Validate, pay, confirm: each wants the result before."""
    return [step(queue, task, wants_previous_result=True, retry_policy=ONE_ATTEMPT, payload=api.json_payload('{"order": 7}'), **fields)
            for task in ("validate", "pay", "confirm")]


def run_one(worker, result):
    """Takes the next delivery and succeeds."""
    delivery = worker.take()
    worker.succeed(delivery, result)
    return delivery


def test_three_steps_with_previous_results(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=order_chain(queue)).chain
    assert (chain.state, chain.succeeded, chain.current_step, len(chain.job_ids)) == (ChainState.RUNNING, 0, 0, 3)
    for index, job_id in enumerate(chain.job_ids):
        job = client.job(job_id)
        assert (job.chain_id, job.chain_index) == (chain.id, index)
        assert job.state == (JobState.BLOCKED if index else JobState.PENDING)
    worker = make_worker(shared, [queue])
    first = run_one(worker, '{"valid": true}')
    assert (first.task, first.chain_id, first.HasField("previous_result")) == ("validate", chain.id, False)
    second = worker.take()
    assert (second.task, second.previous_result.json, second.payload.json) == ("pay", '{"valid": true}', '{"order": 7}')
    middle = client.GetChain(id=chain.id).chain
    assert (middle.state, middle.succeeded, middle.current_step) == (ChainState.RUNNING, 1, 1)
    worker.succeed(second, '{"paid": 12}')
    third = run_one(worker, '"confirmed"')
    assert (third.task, third.previous_result.json) == ("confirm", '{"paid": 12}')
    ended = client.WaitChain(id=chain.id)
    assert not ended.timed_out
    assert (ended.chain.state, ended.chain.succeeded, ended.chain.result.json) == (ChainState.SUCCEEDED, 3, '"confirmed"')
    assert ended.chain.HasField("finished_at") and not ended.chain.on_failure_job_id
    assert [client.job(j).state for j in chain.job_ids] == [JobState.SUCCEEDED] * 3


def test_a_long_error_is_told_to_the_later_steps_in_whole_characters(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=[step(queue, "a"), step(queue, "b")]).chain
    message = "x" + "ü" * 600
    make_worker(shared, [queue], handler=failing(message=message, permanent=True))
    assert client.WaitChain(id=chain.id).chain.state == ChainState.FAILED
    first, second = (client.job(j).error for j in chain.job_ids)
    assert first.message == message
    assert second.message.endswith(message[:500]) and second.type == "CHAIN_STEP_FAILED"


def test_steps_that_follow_a_retry_hold_their_unique_keys_again(shared, make_worker, queue):
    client = shared.client
    key = api.UniqueKey(key="b-only")
    chain = client.CreateChain(steps=[step(queue, "a"), step(queue, "b", unique_key=key)]).chain
    client.CancelJob(id=chain.job_ids[0])
    holder = client.create(queue=queue, unique_key=key)
    with fails("FAILED_PRECONDITION", reason="UNIQUE_KEY_TAKEN", text=holder.id):
        client.RetryJob(id=chain.job_ids[0])
    assert [client.job(j).state for j in chain.job_ids] == [JobState.CANCELLED] * 2
    client.CancelJob(id=holder.id)
    client.RetryJob(id=chain.job_ids[0])
    with fails("ALREADY_EXISTS", reason="UNIQUE_KEY_TAKEN", text=chain.job_ids[1]):
        client.create(queue=queue, unique_key=key)
    make_worker(shared, [queue], handler=echo)
    assert client.WaitChain(id=chain.id).chain.state == ChainState.SUCCEEDED
    client.create(queue=queue, unique_key=key)


def test_a_later_step_keeps_the_time_that_an_update_gave_it(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=[step(queue, "a"), step(queue, "b", delay=api.seconds(60))]).chain
    at = time.time() + 1.5
    client.UpdateJob(id=chain.job_ids[1], run_at=api.timestamp(at))
    worker = make_worker(shared, [queue])
    first = worker.take()
    never(lambda: client.job(chain.job_ids[1]).state != JobState.BLOCKED, "the second step is no longer blocked", 0.7)
    worker.succeed(first, None)
    second = worker.take()
    job = client.job(second.job_id)
    assert (second.task, abs(api.unix(job.run_at) - at) < 0.01) == ("b", True)


def test_a_retry_keeps_the_time_that_an_update_gave_a_later_step(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=[step(queue, "a", retry_policy=ONE_ATTEMPT), step(queue, "b")]).chain
    client.UpdateJob(id=chain.job_ids[1], run_at=api.timestamp(time.time() + 3600))
    worker = make_worker(shared, [queue])
    worker.fail(worker.take())
    assert client.WaitChain(id=chain.id).chain.state == ChainState.FAILED
    client.RetryJob(id=chain.job_ids[0])
    run_one(worker, None)
    shared.wait_for_state(chain.job_ids[1], JobState.SCHEDULED)


def test_a_big_result_is_handed_on(shared, make_worker, queue):
    chain = shared.client.CreateChain(steps=order_chain(queue)).chain
    worker = make_worker(shared, [queue])
    big = json.dumps("b" * 500_000)
    run_one(worker, big)
    assert run_one(worker, None).previous_result.json == big
    assert not worker.take().previous_result.json
    assert shared.client.GetChain(id=chain.id).chain.succeeded == 2


def test_a_step_that_does_not_ask_gets_no_previous_result(shared, make_worker, queue):
    shared.client.CreateChain(steps=[step(queue, "a"), step(queue, "b")])
    worker = make_worker(shared, [queue])
    run_one(worker, '"secret"')
    assert not worker.take().HasField("previous_result")


def test_steps_never_overlap(shared, make_worker, queue):
    chain = shared.client.CreateChain(steps=[step(queue, "a"), step(queue, "b")]).chain
    worker = make_worker(shared, [queue], concurrency=5)
    first = worker.take()
    never(lambda: not worker.deliveries.empty(), "the second step started before the first had ended", 0.4)
    assert shared.client.job(chain.job_ids[1]).waiting_reason == WaitingReason.BLOCKED
    worker.succeed(first)
    assert worker.take().job_id == chain.job_ids[1]


def test_the_delay_of_a_step_counts_from_the_success_before(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=[step(queue, "a"), step(queue, "b", delay=api.seconds(0.7))]).chain
    worker = make_worker(shared, [queue])
    run_one(worker, None)
    waiting = client.job(chain.job_ids[1])
    assert waiting.state == JobState.SCHEDULED
    success = client.job(chain.job_ids[0]).finished_at
    assert api.unix(waiting.run_at) - api.unix(success) == pytest.approx(0.7, abs=0.01)
    run_one(worker, None)
    assert client.WaitChain(id=chain.id).chain.state == ChainState.SUCCEEDED


def test_a_step_retries_before_the_chain_fails(shared, make_worker, queue):
    chain = shared.client.CreateChain(steps=[step(queue, "a", retry_policy=api.RetryPolicy(
        max_attempts=2, kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05))), step(queue, "b")]).chain
    worker = make_worker(shared, [queue])
    worker.fail(worker.take())
    assert shared.client.GetChain(id=chain.id).chain.state == ChainState.RUNNING
    assert run_one(worker, None).job_id == chain.job_ids[0]
    run_one(worker, None)
    assert shared.client.WaitChain(id=chain.id).chain.state == ChainState.SUCCEEDED


def failed_chain(server, make_worker, queue):
    """A chain whose second step failed: (chain, worker)."""
    on_failure = step(queue, "refund", wants_previous_result=True)
    chain = server.client.CreateChain(steps=order_chain(queue), on_failure=on_failure).chain
    worker = make_worker(server, [queue])
    run_one(worker, '"valid"')
    worker.fail(worker.take(), "CardDeclined", "no money")
    return chain, worker


def test_a_failing_step_cancels_the_rest_says_which_and_why_and_calls_back(shared, make_worker, queue):
    client = shared.client
    chain, worker = failed_chain(shared, make_worker, queue)
    ended = client.WaitChain(id=chain.id).chain
    assert (ended.state, ended.current_step, ended.succeeded) == (ChainState.FAILED, 1, 1)
    assert (ended.error.type, ended.error.message) == ("CardDeclined", "no money")
    assert client.job(chain.job_ids[1]).state == JobState.FAILED
    cancelled = client.job(chain.job_ids[2])
    assert (cancelled.state, cancelled.error.type) == (JobState.CANCELLED, "CHAIN_STEP_FAILED")
    assert chain.job_ids[1] in cancelled.error.message
    callback = worker.take()
    assert (callback.task, callback.job_id) == ("refund", ended.on_failure_job_id)
    told = json.loads(callback.previous_result.json)
    assert "CardDeclined" in json.dumps(told) and "no money" in json.dumps(told)
    worker.succeed(callback)
    assert client.counts(queue) == {"succeeded": 2, "failed": 1, "cancelled": 1}


def test_retrying_the_failed_step_resumes_the_chain(shared, make_worker, queue):
    client = shared.client
    chain, worker = failed_chain(shared, make_worker, queue)
    refund = worker.take()
    worker.succeed(refund)
    client.RetryJob(id=chain.job_ids[1])
    resumed = client.GetChain(id=chain.id).chain
    assert resumed.state == ChainState.RUNNING and not resumed.HasField("finished_at")
    assert client.job(chain.job_ids[2]).state == JobState.BLOCKED
    again = run_one(worker, '"paid"')
    assert (again.job_id, again.previous_result.json) == (chain.job_ids[1], '"valid"')
    last = run_one(worker, '"confirmed"')
    assert (last.job_id, last.previous_result.json) == (chain.job_ids[2], '"paid"')
    ended = client.WaitChain(id=chain.id).chain
    assert (ended.state, ended.succeeded, ended.result.json) == (ChainState.SUCCEEDED, 3, '"confirmed"')
    assert not ended.HasField("error")


def test_a_retried_step_waits_for_the_one_before(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=order_chain(queue)).chain
    worker = make_worker(shared, [queue])
    first = worker.take()
    client.CancelJob(id=chain.job_ids[1])
    assert client.RetryJob(id=chain.job_ids[1]).job.state == JobState.BLOCKED
    assert [client.job(j).state for j in chain.job_ids] == [JobState.RUNNING, JobState.BLOCKED, JobState.BLOCKED]
    worker.succeed(first, '"valid"')
    for job_id in chain.job_ids[1:]:
        assert run_one(worker, '"done"').job_id == job_id
    assert client.WaitChain(id=chain.id).chain.state == ChainState.SUCCEEDED


def test_a_step_can_not_be_retried_before_the_one_in_front_of_it(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=order_chain(queue)).chain
    worker = make_worker(shared, [queue])
    first = worker.take()
    client.CancelJob(id=chain.job_ids[1])
    worker.fail(first, permanent=True)
    with fails("FAILED_PRECONDITION", reason="CHAIN_STEP_FAILED", text="retry that one first"):
        client.RetryJob(id=chain.job_ids[1])


def test_a_cancelled_chain_whose_step_is_retried_leaves_nothing_blocked(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=order_chain(queue)).chain
    worker = make_worker(shared, [queue])
    delivery = worker.take()
    client.CancelChain(id=chain.id)
    worker.fail(delivery, cancelled=True)
    client.WaitChain(id=chain.id)
    client.RetryJob(id=chain.job_ids[0])
    run_one(worker, '"valid"')
    assert client.WaitChain(id=chain.id).chain.state == ChainState.CANCELLED
    assert [client.job(j).state for j in chain.job_ids] == [JobState.SUCCEEDED, JobState.CANCELLED, JobState.CANCELLED]


def test_a_step_retried_after_the_others_are_gone_ends_the_chain(timed_server, clock, make_worker, queue):
    """Cancelled steps are kept for a day, failed ones for seven."""
    client = timed_server.client
    chain, worker = failed_chain(timed_server, make_worker, queue)
    worker.succeed(worker.take())
    clock.advance(2 * 86400)
    wait_until(lambda: not client.list(ids=[chain.job_ids[2]]), "the cancelled step is gone")
    client.RetryJob(id=chain.job_ids[1])
    run_one(worker, '"paid"')
    ended = client.WaitChain(id=chain.id).chain
    assert (ended.state, ended.error.type) == (ChainState.CANCELLED, "CHAIN_STEP_REMOVED")


def test_on_failure_comes_once_also_after_a_retry(shared, make_worker, queue):
    client = shared.client
    chain, worker = failed_chain(shared, make_worker, queue)
    first = client.GetChain(id=chain.id).chain.on_failure_job_id
    worker.succeed(worker.take())
    client.RetryJob(id=chain.job_ids[1])
    worker.fail(worker.take(), "CardDeclined", "still no money")
    ended = client.WaitChain(id=chain.id).chain
    assert (ended.state, ended.error.message, ended.on_failure_job_id) == (ChainState.FAILED, "still no money", first)
    assert client.job(chain.job_ids[2]).state == JobState.CANCELLED
    assert len(client.list(queues=[queue], tasks=["refund"])) == 1


def test_a_cancelled_step_cancels_the_chain(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=order_chain(queue), on_failure=step(queue, "refund")).chain
    client.CancelJob(id=chain.job_ids[0])
    ended = client.WaitChain(id=chain.id).chain
    assert (ended.state, ended.current_step) == (ChainState.CANCELLED, 0)
    assert [client.job(j).state for j in chain.job_ids] == [JobState.CANCELLED] * 3
    assert make_worker(shared, [queue]).take().task == "refund"


def test_an_expired_step_fails_the_chain(shared, queue):
    client = shared.client
    steps = order_chain(queue)
    steps[0].expires_in.CopyFrom(api.seconds(0.1))
    chain = client.CreateChain(steps=steps).chain
    ended = client.WaitChain(id=chain.id).chain
    assert ended.state == ChainState.FAILED
    assert [client.job(j).state for j in chain.job_ids] == [JobState.EXPIRED, JobState.CANCELLED, JobState.CANCELLED]


def test_cancel_a_chain(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=order_chain(queue)).chain
    worker = make_worker(shared, [queue])
    delivery = worker.take()
    assert client.CancelChain(id=chain.id, reason="the order was withdrawn").accepted
    worker.wait_for_command(CommandKind.CANCEL, delivery.job_id)
    worker.fail(delivery, cancelled=True)
    ended = client.WaitChain(id=chain.id).chain
    assert ended.state == ChainState.CANCELLED
    assert [client.job(j).state for j in chain.job_ids] == [JobState.CANCELLED] * 3
    assert not client.CancelChain(id=chain.id).accepted


def test_the_same_chain_sent_twice_is_one(shared, queue):
    client = shared.client
    chain_id = api.new_id()
    first = client.CreateChain(id=chain_id, steps=order_chain(queue))
    steps = order_chain(queue)
    steps[0].traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # a trace of its own is no other content
    again = client.CreateChain(id=chain_id, steps=steps)
    assert (first.existing, again.existing) == (False, True)
    assert list(again.chain.job_ids) == list(first.chain.job_ids)
    with fails("ALREADY_EXISTS", text=chain_id):
        client.CreateChain(id=chain_id, steps=order_chain(queue)[:2])
    assert client.counts(queue) == {"pending": 1, "blocked": 2}


def test_wait_for_a_chain_has_its_own_timeout(shared, queue):
    chain = shared.client.CreateChain(steps=order_chain(queue)).chain
    answer = shared.client.WaitChain(id=chain.id, timeout=api.seconds(0.2))
    assert answer.timed_out and answer.chain.state == ChainState.RUNNING


def test_waiting_for_a_chain_ends_with_it(shared, make_worker, queue):
    chain = shared.client.CreateChain(steps=order_chain(queue)).chain
    answers = []
    thread = threading.Thread(target=lambda: answers.append(shared.client.WaitChain(id=chain.id, timeout=api.seconds(30))))
    thread.start()
    make_worker(shared, [queue], handler=echo)
    thread.join(30)
    assert answers[0].chain.state == ChainState.SUCCEEDED


def test_a_chain_goes_on_after_a_crash(server, make_worker):
    client = server.client
    chain = client.CreateChain(steps=order_chain("default")).chain
    worker = make_worker(server)
    run_one(worker, '"valid"')
    held = worker.take()
    server.restart()
    worker.reconnect()
    worker.succeed(held, '"paid"')
    last = run_one(worker, None)
    assert last.previous_result.json == '"paid"'
    assert client.WaitChain(id=chain.id).chain.state == ChainState.SUCCEEDED
    assert [client.job(j).deliveries for j in chain.job_ids] == [1, 1, 1]


def test_steps_on_several_queues(shared, make_worker, queue):
    other = queue + "-other"
    chain = shared.client.CreateChain(steps=[step(queue, "a"), step(other, "b"), step(queue, "c")]).chain
    make_worker(shared, [queue], handler=echo)
    make_worker(shared, [other], handler=echo)
    assert shared.client.WaitChain(id=chain.id).chain.state == ChainState.SUCCEEDED


def test_list_chains_by_page(client):
    spec = [step("default", "a")]
    ids = sorted(client.CreateChain(steps=spec).chain.id for _ in range(7))
    seen, token = [], ""
    while True:
        page = client.ListChains(page_size=3, page_token=token)
        assert len(page.chains) <= 3
        seen += [c.id for c in page.chains]
        token = page.next_page_token
        if not token:
            break
    assert seen == ids


def test_jobs_of_a_chain_can_be_listed(shared, queue):
    chain = shared.client.CreateChain(steps=order_chain(queue)).chain
    assert {j.id for j in shared.client.list(chain_id=chain.id)} == set(chain.job_ids)


def test_a_chain_of_a_thousand_steps(shared, make_worker, queue):
    client = shared.client
    chain = client.CreateChain(steps=[step(queue, "a")] * 1000).chain
    make_worker(shared, [queue], handler=echo)
    assert client.WaitChain(id=chain.id, timeout=api.seconds(60)).chain.state == ChainState.SUCCEEDED
    with fails("INVALID_ARGUMENT", field="steps"):
        client.CreateChain(steps=[step(queue, "a")] * 1001)


def test_many_chains_at_once(shared, make_worker, queue):
    client = shared.client
    chains = [client.CreateChain(id=api.new_id(), steps=order_chain(queue)).chain.id for _ in range(30)]
    make_worker(shared, [queue], handler=lambda d: failing()(d) if d.task == "pay" and int(d.chain_id[-1], 16) % 2 else "1")
    for chain_id in chains:
        ended = client.WaitChain(id=chain_id).chain
        assert ended.state == (ChainState.FAILED if int(chain_id[-1], 16) % 2 else ChainState.SUCCEEDED)


def test_a_lost_worker_does_not_break_a_chain(shared, make_worker, queue):
    steps = order_chain(queue)
    for spec in steps:
        spec.retry_policy.CopyFrom(api.RetryPolicy(kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05)))
    chain = shared.client.CreateChain(steps=steps).chain
    broken = make_worker(shared, [queue], handler=lambda _: HOLD)
    broken.take()
    broken.vanish()
    make_worker(shared, [queue], handler=echo)
    wait_until(lambda: shared.client.GetChain(id=chain.id).chain.state == ChainState.SUCCEEDED, "the chain's end")
    assert shared.client.job(chain.job_ids[0]).lost_count == 1
