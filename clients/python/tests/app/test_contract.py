# SPDX-License-Identifier: Apache-2.0
"""One contract for all backends: in memory, on the service with a real worker, on Celery with Redis and a real worker."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stacks import Stack

from millrace.jobs import JobExists, JobNotFound, JobPriority, NotSupported, QueueBackend, TaskStatus, WaitTimeout, use_backend

# In memory a job runs in the test's own process as soon as it is enqueued: nothing waits, nothing can be killed.
real_workers = pytest.mark.parametrize("stack", ["millrace", "celery"], indirect=True)
not_celery = pytest.mark.parametrize("stack", ["memory", "millrace"], indirect=True)


def test_each_backend_is_one(stack: Stack) -> None:
    assert isinstance(stack.jobs.backend, QueueBackend)


# ---- what runs, and what it tells ----


async def test_a_job_runs_and_its_result_comes_back(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("add", 2, 3)
    ended = await stack.finish(task_id)
    assert (ended.id, ended.status, ended.result, ended.error) == (task_id, "success", 5, None)
    assert await stack.jobs.get_status(task_id) == ended


async def test_arguments_arrive_as_they_were(stack: Stack) -> None:
    value = {"text": "Zoë – 東京", "big": 2**63 - 1, "nested": [[1, {"deep": None}], True, 1.5]}
    ended = await stack.finish(await stack.jobs.enqueue("echo", value, "second", task="a keyword named task", delay=5, name="n"))
    assert ended.result == {"args": [value, "second"], "kwargs": {"task": "a keyword named task", "delay": 5, "name": "n"}}


async def test_an_exception_that_escapes_fails_the_job_for_good(stack: Stack) -> None:
    ended = await stack.finish(await stack.jobs.enqueue("fail", stack.file(), "boom"))
    assert (ended.status, ended.error, ended.result) == (TaskStatus.FAILED, "ValueError: boom", None)
    assert stack.notes() == ["ran"]


async def test_a_retry_runs_the_handler_again_and_counts(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("flaky", stack.file(), failures=2)
    await stack.let_pass(1)
    ended = await stack.finish(task_id)
    assert (ended.status, ended.result) == ("success", 2)
    assert stack.notes() == ["0", "1", "2"]


async def test_a_retry_beyond_max_retries_raises_what_it_was_given(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("hopeless", stack.file())
    await stack.let_pass(1)
    ended = await stack.finish(task_id)
    assert (ended.status, ended.error) == ("failed", "KeyError: 'gone'")
    assert stack.notes() == ["0", "1", "2"]


async def test_a_retry_without_an_exception_says_that_retries_are_used_up(stack: Stack) -> None:
    ended = await stack.finish(await stack.jobs.enqueue("unexplained"))
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.startswith("MaxRetriesExceededError: ")


async def test_a_retry_without_a_countdown_comes_in_three_minutes(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("slow_to_retry")
    seen = await stack.until_status(task_id, TaskStatus.RETRYING)
    assert seen.error == "ConnectionError: later"
    if stack.name == "millrace":
        job = await stack.jobs.backend.client.get(task_id)  # type: ignore[attr-defined]
        assert 170 < (job.run_at - datetime.now(UTC)).total_seconds() < 181
    if stack.name == "memory":
        await stack.let_pass(179)
        assert stack.jobs.backend.jobs()[0].attempts == 1  # type: ignore[attr-defined]
        await stack.let_pass(1)
        assert stack.jobs.backend.jobs()[0].attempts == 2  # type: ignore[attr-defined]


async def test_autoretry_for_retries_what_it_names(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("auto", stack.file(), failures=1)
    await stack.let_pass(2)
    ended = await stack.finish(task_id)
    assert (ended.status, ended.result, stack.notes()) == ("success", "done", ["ran", "ran"])


async def test_autoretry_for_ends_with_the_exception(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("auto", stack.file(), failures=99)
    for _ in range(3):
        await stack.let_pass(2)
    ended = await stack.finish(task_id)
    assert (ended.status, ended.error) == ("failed", "ConnectionError: not yet")
    assert len(stack.notes()) == 3


async def test_autoretry_for_leaves_other_exceptions_alone(stack: Stack) -> None:
    ended = await stack.finish(await stack.jobs.enqueue("auto_other", stack.file()))
    assert (ended.status, stack.notes()) == ("failed", ["ran"])


async def test_a_handler_called_directly_raises_instead_of_retrying(stack: Stack) -> None:
    ended = await stack.finish(await stack.jobs.enqueue("calls_directly", stack.file()))
    assert (ended.result, stack.notes()) == ("raised gone", ["0"])


async def test_the_soft_time_limit_interrupts_a_handler(stack: Stack) -> None:
    assert (await stack.finish(await stack.jobs.enqueue("impatient"))).result == "cut short"


async def test_a_result_that_is_ignored_is_not_kept(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("discard", stack.file())
    await stack.until(stack.notes, "the handler runs")
    if stack.name != "celery":  # Celery keeps no state of such a task either
        assert (await stack.finish(task_id)).status == "success"
    assert (await stack.jobs.get_status(task_id)).result is None


async def test_a_handler_makes_jobs(stack: Stack, fresh_process: None) -> None:
    if stack.name == "memory":
        use_backend(lambda: stack.jobs.backend)
    made = (await stack.finish(await stack.jobs.enqueue("make_jobs", stack.file(), 3))).result
    for task_id in made:
        assert (await stack.finish(task_id)).status == "success"
    assert sorted(stack.notes()) == ["0", "1", "2"]


@real_workers
async def test_the_hard_time_limit_fails_the_job_for_good(stack: Stack) -> None:
    ended = await stack.finish(await stack.jobs.enqueue("stuck", stack.file()))
    assert ended.status == "failed"
    assert stack.notes() == ["ran"]


# ---- delays ----


async def test_a_delayed_job_waits_for_its_time(stack: Stack) -> None:
    begin = datetime.now(UTC)
    by_position = await stack.jobs.enqueue_delayed("append", timedelta(seconds=2), stack.file(), "by position")
    by_keyword = await stack.jobs.enqueue_delayed("append", delay=timedelta(seconds=2), path=stack.file(), word="by keyword")
    seen = await stack.jobs.get_status(by_position)
    assert seen.status == (TaskStatus.PENDING if stack.name == "celery" else TaskStatus.SCHEDULED)
    await stack.let_pass(2)
    for task_id in (by_position, by_keyword):
        assert (await stack.finish(task_id)).status == "success"
    if stack.name != "memory":
        assert datetime.now(UTC) - begin >= timedelta(seconds=2)
    assert sorted(stack.notes()) == ["by keyword", "by position"]


async def test_a_delayed_job_can_be_cancelled(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue_delayed("append", timedelta(seconds=2), stack.file(), "must not run")
    assert await stack.jobs.cancel(task_id) is True
    await stack.let_pass(2)
    assert (await stack.finish(task_id)).status == "cancelled"
    assert await stack.jobs.cancel(task_id) is False
    assert stack.notes() == []


# ---- chains ----


async def test_a_chain_runs_its_steps_in_order(stack: Stack) -> None:
    words = ["validate", "pay", "confirm"]
    last = await stack.jobs.chain([("append", (stack.file(),), {"word": word}) for word in words] + [("add", (1, 1), {})])
    assert (await stack.finish(last)).result == 2
    assert stack.notes() == words


async def test_a_chain_stops_at_the_step_that_fails(stack: Stack) -> None:
    last = await stack.jobs.chain([("fail", (stack.file(), "no stock"), {}), ("append", (stack.file(), "must not run"), {})])
    await stack.until(stack.notes, "the first step runs")
    if stack.name != "celery":  # which never tells of the others
        assert (await stack.finish(last)).status == "cancelled"
    await stack.finish(await stack.jobs.enqueue("add", 1, 1))
    assert stack.notes() == ["ran"]


async def test_a_chain_has_steps(stack: Stack) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        await stack.jobs.chain([])
    with pytest.raises(TypeError, match=r"\(task, args, kwargs\)"):
        await stack.jobs.chain(["add"])  # type: ignore[list-item]


# ---- batches ----


async def test_a_batch_makes_a_job_of_each_item(stack: Stack) -> None:
    path = stack.file()
    result = await stack.jobs.enqueue_batch("append", items=[{"path": path, "word": str(n)} for n in range(25)], batch_size=10)
    assert (result.total, result.enqueued, result.error) == (25, 25, None)
    other = await stack.jobs.enqueue_batch("append", items=[(path, "tuple")])
    assert other.batch_id != result.batch_id
    await stack.until(lambda: len(stack.notes()) == 26, "every item runs")
    assert sorted(stack.notes()) == sorted([*map(str, range(25)), "tuple"])


async def test_a_batch_takes_any_iterable(stack: Stack) -> None:
    path = stack.file()

    def lazily() -> Iterator[tuple[str, str]]:
        for number in range(7):
            yield path, f"sync {number}"

    async def slowly() -> AsyncIterator[dict[str, str]]:
        for number in range(7):
            yield {"path": path, "word": f"async {number}"}

    for items in (lazily(), slowly()):
        result = await stack.jobs.enqueue_batch("append", items=items, batch_size=3)
        assert (result.total, result.enqueued, result.error) == (7, 7, None)
    await stack.until(lambda: len(stack.notes()) == 14, "every item runs")


async def test_an_empty_batch_is_a_batch(stack: Stack) -> None:
    result = await stack.jobs.enqueue_batch("append", items=[])
    assert (result.total, result.enqueued, result.error) == (0, 0, None)
    assert result.batch_id


async def test_an_item_that_is_neither_dict_nor_tuple_is_an_error(stack: Stack) -> None:
    with pytest.raises(TypeError, match="a dict or a tuple, not str"):
        await stack.jobs.enqueue_batch("append", items=["word"])


async def test_an_error_of_the_items_themselves_comes_through(stack: Stack) -> None:
    def broken() -> Iterator[tuple[str, str]]:
        for number in range(5):
            yield stack.file(), str(number)
        raise OSError("the file ended early")

    with pytest.raises(OSError, match="ended early"):
        await stack.jobs.enqueue_batch("append", items=broken(), batch_size=2)


# ---- looking and stopping ----


async def test_waiting_has_a_time_out(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("nobody_handles_this", queue=stack.idle_queue)
    with pytest.raises(TimeoutError) as caught:
        await stack.jobs.wait_for(task_id, timeout=0.2)
    assert isinstance(caught.value, WaitTimeout)
    assert (await stack.jobs.get_status(task_id)).status == "pending"


async def test_an_unknown_job(stack: Stack) -> None:
    unknown = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    if stack.name == "celery":
        assert (await stack.jobs.get_status(unknown)).status == "pending"
    else:
        with pytest.raises(JobNotFound):
            await stack.jobs.get_status(unknown)


async def test_a_job_that_has_ended_cannot_be_cancelled(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("add", 1, 1)
    await stack.finish(task_id)
    assert await stack.jobs.cancel(task_id) is False
    assert await stack.jobs.cancel(task_id, terminate=True) is False


@real_workers
async def test_terminate_kills_a_handler_that_runs(stack: Stack) -> None:
    task_id = await stack.jobs.enqueue("hold", str(stack.folder))
    await stack.until((stack.folder / "started").exists, "the handler runs")
    assert (await stack.until_status(task_id, TaskStatus.RUNNING)).status == "running"
    assert await stack.jobs.cancel(task_id, terminate=True) is True
    assert (await stack.finish(task_id)).status == "cancelled"


# ---- queues ----


async def test_queues_are_counted_and_purged(stack: Stack) -> None:
    assert await stack.jobs.queue_length(stack.idle_queue) == 0
    for priority in JobPriority:
        await stack.jobs.enqueue("nobody_handles_this", queue=stack.idle_queue, priority=priority)
    assert await stack.jobs.queue_length(stack.idle_queue) == 4
    assert await stack.jobs.purge_queue(stack.idle_queue) == 4
    assert await stack.jobs.queue_length(stack.idle_queue) == 0
    assert await stack.jobs.purge_queue(stack.idle_queue) == 0


@real_workers
async def test_the_urgent_go_first(stack: Stack, single_slot: str) -> None:
    jobs = stack.jobs.options(queue=single_slot)
    await jobs.enqueue("hold", str(stack.folder))
    await stack.until((stack.folder / "started").exists, "the slot is taken")
    ids = [await jobs.enqueue("append", stack.file(), "reserved")]  # Celery's worker takes one ahead
    await stack.until_reserved(single_slot)
    for priority in (JobPriority.LOW, JobPriority.NORMAL, JobPriority.HIGH, JobPriority.CRITICAL):
        ids.append(await jobs.enqueue("append", stack.file(), priority.name, priority=priority))
    (stack.folder / "release").touch()
    for task_id in ids:
        await stack.finish(task_id)
    urgent_first = ["CRITICAL", "HIGH", "NORMAL", "LOW"]
    if stack.name == "celery":
        assert stack.notes() == ["reserved", *urgent_first]
    else:
        assert [word for word in stack.notes() if word != "reserved"] == urgent_first


# ---- recurring jobs ----


async def test_a_schedule_by_interval_runs_again_and_again(stack: Stack) -> None:
    name = f"tick-{stack.idle_queue}"
    schedule_id = await stack.jobs.schedule_interval("append", interval=timedelta(seconds=1), name=name, args=(stack.file(), "tick"))
    assert schedule_id == name
    (listed,) = [job for job in await stack.jobs.list_scheduled() if job.id == name]
    assert (listed.name, listed.schedule) == (name, "every 1s")
    assert listed.next_run is not None
    await stack.let_pass(3)
    await stack.until(lambda: len(stack.notes()) >= 3, "the schedule runs three times")
    assert await stack.jobs.unschedule(schedule_id) is True
    assert await stack.jobs.unschedule(schedule_id) is False
    assert name not in [job.id for job in await stack.jobs.list_scheduled()]


async def test_a_schedule_by_cron_tells_its_next_time(stack: Stack) -> None:
    name = f"report-{stack.idle_queue}"
    for cron, hour in (("0 9 * * *", 9), ("0 9 * * *", 9), ("0 17 * * *", 17)):
        assert await stack.jobs.schedule("append", cron=cron, name=name, kwargs={"path": stack.file(), "word": "report"}) == name
        (listed,) = [job for job in await stack.jobs.list_scheduled() if job.name == name]
        assert listed.schedule == cron
        assert listed.next_run is not None
        assert listed.next_run.utcoffset() == timedelta()
        assert (listed.next_run.hour, listed.next_run.minute, listed.next_run.second) == (hour, 0, 0)
        assert timedelta() < listed.next_run - datetime.now(UTC) <= timedelta(days=1, seconds=1)
    assert await stack.jobs.unschedule(name) is True


@pytest.mark.parametrize("cron", ["every day", "61 * * * *", "0 9 * *"])
async def test_a_cron_expression_that_is_none_is_refused(stack: Stack, cron: str) -> None:
    with pytest.raises((ValueError, NotSupported)):
        await stack.jobs.schedule("append", cron=cron, name=f"bad-{stack.idle_queue}")


# ---- options ----


@pytest.mark.parametrize(
    "options",
    [
        {"unique_key": "k"},
        {"concurrency_key": "k"},
        {"labels": {"tenant": "a"}},
        {"retention": 60},
        {"total_timeout": 60},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_an_option_is_carried_or_refused(stack: Stack, options: Any) -> None:
    jobs = stack.jobs.options(**options)
    if stack.name == "celery":
        with pytest.raises(NotSupported):
            await jobs.enqueue("add", 1, 1, queue=stack.idle_queue)
        assert await stack.jobs.queue_length(stack.idle_queue) == 0
    else:
        assert await jobs.enqueue("nobody_handles_this", queue=stack.idle_queue)


@not_celery
async def test_a_unique_key_keeps_a_second_job_out(stack: Stack) -> None:
    jobs = stack.jobs.options(unique_key="invoice 17", queue=stack.idle_queue)
    first = await jobs.enqueue("nobody_handles_this")
    with pytest.raises(JobExists) as caught:
        await jobs.enqueue("nobody_handles_this")
    assert caught.value.job_id == first
    await stack.jobs.cancel(first)
    assert await jobs.enqueue("nobody_handles_this") != first


async def test_an_id_of_ones_own_makes_sending_twice_safe(stack: Stack) -> None:
    own = "0198a0b0-0000-7000-8000-" + f"{abs(hash(stack.folder)) % 10**12:012d}"
    for _ in range(2):
        assert await stack.jobs.options(id=own).enqueue("append", stack.file(), "once") == own
        await stack.finish(own)
    if stack.name != "celery":  # which runs it twice
        assert stack.notes() == ["once"]


async def test_a_job_that_comes_too_late_expires(stack: Stack) -> None:
    task_id = await stack.jobs.options(expires=timedelta(seconds=1), queue=stack.idle_queue).enqueue("nobody_handles_this")
    if stack.name == "celery":
        return  # it is dropped when a worker meets it, and this queue has none
    await stack.let_pass(2)
    assert (await stack.finish(task_id)).status == "expired"
