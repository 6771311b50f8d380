# SPDX-License-Identifier: Apache-2.0
"""Workers, against the real service: each pool, both transports, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import CLIENT, SOON_S, Millraced, WorkerProcess, wait_until
from millrace import Client, Job, JobState, Registry, RetryPolicy, Worker, WorkerOptions

POOLS = ("processes", "threads", "asyncio")
Start = Callable[..., WorkerProcess]


async def until_running(client: Client, job_id: str, *, progress: bool = True) -> Job:
    async with asyncio.timeout(SOON_S):
        while True:
            job = await client.get(job_id)
            if job.state is JobState.RUNNING and (job.progress is not None or not progress):
                return job
            assert not job.is_terminal, job
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("transport", ["nng", "grpc"])
@pytest.mark.parametrize("pool", POOLS)
async def test_handlers_of_every_kind(client: Client, queue: str, start_worker: Start, pool: str, transport: str) -> None:
    worker = start_worker("--queues", queue, "--pool", pool, "--transport", transport, "--concurrency", "2")

    async def run(task: str, *args: object, **kwargs: object) -> Job:
        return await client.wait((await client.create(task, args=args, kwargs=kwargs, queue=queue)).id)

    assert [(await run("add", 1)).result, (await run("add", 1, b=2)).result, (await run("add_async", a=1, b=3)).result] == [2, 3, 4]
    assert (await run("add_wrapped", 1, b=4)).result == 5
    failed = await run("fail", "it broke")
    assert (failed.state, failed.attempts) == (JobState.FAILED, 2)
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "it broke")
    assert "raise ValueError(message)" in failed.error.trace
    assert [attempt.outcome for attempt in failed.history] == ["failed", "failed"]
    for_good = await run("fail_for_good")
    assert (for_good.state, for_good.attempts, for_good.error and for_good.error.type) == (JobState.FAILED, 1, "KeyError")
    assert (await run("later")).result == 2
    snoozed = await run("snooze_once")
    assert (snoozed.result, snoozed.deliveries) == (1, 2)
    for odd in (await run("bad_result"), await run("big_result", 1_100_000)):
        assert (odd.state, odd.result_payload) == (JobState.SUCCEEDED, None)
        assert odd.result_omitted_reason
    big = await client.create("echo", payload={"text": "é" * 400_000}, queue=queue)
    assert (await client.wait(big.id)).result == {"text": "é" * 400_000}
    data = await client.create("echo", payload=bytes(range(256)) * 2000, queue=queue)
    assert (await client.wait(data.id)).result == bytes(range(256)) * 2000
    assert [line.text for line in await client.log(data.id)] == ["before echo", "after echo"]
    assert worker.terminate() == 0
    lines = [line for line in worker.log.splitlines() if data.id in line]
    assert len(lines) == 1
    assert re.search(rf"attempt job={data.id} task=echo attempt=1 duration=[\d.]+s outcome=succeeded$", lines[0])


@pytest.mark.parametrize("task", ["wait_politely", "wait_politely_async"])
@pytest.mark.parametrize("pool", POOLS)
async def test_a_cancel_reaches_the_handler(client: Client, queue: str, start_worker: Start, pool: str, task: str) -> None:
    start_worker("--queues", queue, "--pool", pool, "--concurrency", "1")
    created = await client.create(task, queue=queue)
    job = await until_running(client, created.id)
    assert job.progress is not None
    assert (job.progress.fraction, job.progress.message) == (0.5, "waiting")
    assert await client.cancel(created.id)
    ended = await client.wait(created.id)
    assert (ended.state, ended.attempts) == (JobState.CANCELLED, 1)


@pytest.mark.parametrize("task", ["deaf", "stubborn"])
async def test_a_terminate_stops_a_process_and_only_it(client: Client, queue: str, start_worker: Start, task: str) -> None:
    worker = start_worker("--queues", queue, "--concurrency", "2", "--terminate-grace", "0.5")
    neighbour = await client.create("wait_politely", args=[4], queue=queue)
    created = await client.create(task, queue=queue)
    await until_running(client, created.id)
    await client.terminate(created.id)
    assert (await client.wait(created.id)).state is JobState.CANCELLED
    assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
    ended = await client.wait(neighbour.id)
    assert (ended.result, ended.deliveries) == ("waited", 1)
    assert worker.terminate() == 0


@pytest.mark.parametrize("task", ["deaf_in_a_thread", "deaf_beside_a_thread"])
async def test_a_process_ends_with_a_terminate_whatever_its_threads_do(client: Client, queue: str, start_worker: Start, task: str) -> None:
    start_worker("--queues", queue, "--concurrency", "1", "--terminate-grace", "0.5")
    created = await client.create(task, queue=queue)
    job = await until_running(client, created.id)
    await client.terminate(created.id)
    assert (await client.wait(created.id)).state is JobState.CANCELLED
    assert job.progress is not None
    command = Path(f"/proc/{job.progress.message}/cmdline")
    if task == "deaf_in_a_thread":  # it is killed, and nothing is told before
        assert not command.exists()
    async with asyncio.timeout(SOON_S):
        assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
    assert not command.exists()


async def test_an_async_handler_has_tidied_up_when_its_cancel_is_confirmed(
    client: Client, queue: str, start_worker: Start, tmp_path: Path
) -> None:
    start_worker("--queues", queue, "--concurrency", "1", "--terminate-grace", "30")
    file = tmp_path / "file"
    created = await client.create("tidy_up_when_stopped", args=[str(file)], queue=queue)
    await until_running(client, created.id)
    await client.terminate(created.id)
    assert (await client.wait(created.id)).state is JobState.CANCELLED
    assert file.read_text() == "tidy"


async def test_an_attempt_time_out_stops_the_process(client: Client, queue: str, start_worker: Start) -> None:
    start_worker("--queues", queue, "--concurrency", "1", "--terminate-grace", "0.5")
    created = await client.create("deaf", queue=queue, attempt_timeout=0.5, id=None)
    other = await client.create("add", args=[1], queue=queue)
    assert (await client.wait(other.id)).result == 2
    job = await client.get(created.id)
    assert job.error is not None
    assert job.error.type == "TIMEOUT"


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
async def test_a_terminate_that_cannot_be_obeyed_ends_the_worker(client: Client, queue: str, start_worker: Start, pool: str) -> None:
    worker = start_worker("--queues", queue, "--pool", pool, "--concurrency", "2", "--terminate-grace", "0.5")
    neighbour = await client.create("deaf", queue=queue, labels={"who": "neighbour"})
    created = await client.create("deaf", queue=queue)
    await until_running(client, neighbour.id)
    await until_running(client, created.id)
    await client.terminate(created.id)
    assert await asyncio.to_thread(worker.process.wait, SOON_S) == 75
    assert (await client.wait(created.id)).state is JobState.CANCELLED
    job = await client.get(neighbour.id)
    assert (job.state, job.attempts, job.lost_count) == (JobState.PENDING, 0, 0)


@pytest.mark.parametrize("ask", ["stop", "terminate another"])
async def test_a_worker_that_ends_never_confirms_the_cancel_of_code_that_runs(
    client: Client, queue: str, start_worker: Start, ask: str
) -> None:
    """Its job ends with the session. Told to be released, it would have ended at once, with the code still running."""
    flags = ("--pool", "threads", "--concurrency", "3", "--stop-grace", "0.5", "--terminate-grace", "0.5")
    worker = start_worker("--queues", queue, *flags)
    cancelled, other, neighbour = [(await client.create("deaf", queue=queue)).id for _ in range(3)]
    for job_id in (cancelled, other, neighbour):
        await until_running(client, job_id)
    await client.cancel(cancelled)
    if ask == "stop":
        assert await asyncio.to_thread(worker.terminate) == 0
    else:
        await client.terminate(other)
        assert await asyncio.to_thread(worker.process.wait, SOON_S) == 75
    job = await client.wait(cancelled)
    assert (job.state, job.lost_count) == (JobState.CANCELLED, 1)
    job = await client.get(neighbour)
    assert (job.state, job.attempts, job.lost_count) == (JobState.PENDING, 0, 0)


@pytest.mark.parametrize(("pool", "task"), [("processes", "deaf"), ("processes", "stubborn"), ("asyncio", "deaf_async")])
async def test_a_worker_that_stops_ends_code_that_was_only_asked_to(
    client: Client, queue: str, start_worker: Start, pool: str, task: str
) -> None:
    """Since it can be stopped by force here, the cancel is confirmed rather than left to the end of the session."""
    flags = ("--pool", pool, "--concurrency", "1", "--stop-grace", "0.5", "--terminate-grace", "0.5")
    worker = start_worker("--queues", queue, *flags)
    cancelled = await client.create(task, queue=queue)
    await until_running(client, cancelled.id)
    await client.cancel(cancelled.id)
    assert await asyncio.to_thread(worker.terminate) == 0
    job = await client.get(cancelled.id)
    assert (job.state, job.lost_count) == (JobState.CANCELLED, 0)


@pytest.mark.parametrize("task", ["stubborn_async", "deaf_in_a_thread", "hold_the_loop"])
async def test_a_worker_ends_whatever_its_event_loop_still_does(client: Client, queue: str, start_worker: Start, task: str) -> None:
    flags = ("--pool", "asyncio", "--concurrency", "1", "--stop-grace", "0.5")
    worker = start_worker("--queues", queue, *flags)
    created = await client.create(task, queue=queue)
    await until_running(client, created.id)
    assert await asyncio.to_thread(worker.terminate) == 0
    assert "a handler still runs, and the worker has ended: the process exits with 0" in worker.log
    assert (await client.get(created.id)).state is JobState.PENDING


class Passage:
    """A way to the server that a test can close."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, far_writer}

        async def carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    to.write(data)
            to.close()

        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    async def close(self) -> None:
        self._server.close()
        for writer in self._open:
            writer.close()


async def test_a_worker_that_stops_and_cannot_join_waits_between_its_tries(
    client: Client, queue: str, start_worker: Start, millraced: Millraced
) -> None:
    passage = Passage(millraced.worker_port)
    url = f"ws://127.0.0.1:{await passage.start()}"
    flags = ("--pool", "threads", "--concurrency", "1", "--transport", "nng", "--stop-grace", "5")
    worker = start_worker("--queues", queue, *flags, MILLRACE_WORKER_URL=url)
    created = await client.create("wait_politely", args=[3], queue=queue)
    await until_running(client, created.id)
    await passage.close()
    assert await asyncio.to_thread(worker.terminate) == 0
    tries = worker.log.count("cannot join")
    assert 2 <= tries < 20, worker.log[-2000:]


async def test_a_terminate_cancels_an_async_handler(client: Client, queue: str, start_worker: Start) -> None:
    worker = start_worker("--queues", queue, "--pool", "asyncio", "--concurrency", "1")
    created = await client.create("wait_politely_async", queue=queue)
    await until_running(client, created.id)
    await client.terminate(created.id)
    assert (await client.wait(created.id)).state is JobState.CANCELLED
    assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
    assert worker.terminate() == 0


async def test_no_handler_can_hold_up_the_heartbeats(client: Client, queue: str, start_worker: Start) -> None:
    start_worker("--queues", queue, "--concurrency", "1")
    created = await client.create("hold_the_interpreter", args=[5], queue=queue)
    job = await client.wait(created.id)
    assert (job.state, job.deliveries, job.lost_count) == (JobState.SUCCEEDED, 1, 0)


async def test_a_process_that_dies_is_a_failed_attempt_and_is_replaced(client: Client, queue: str, start_worker: Start) -> None:
    start_worker("--queues", queue, "--concurrency", "1")
    created = await client.create("die", queue=queue, kwargs={})
    other = await client.create("add", args=[1], queue=queue)
    assert (await client.wait(other.id)).result == 2
    job = await client.get(created.id)
    assert job.error is not None
    assert job.error.type == "ProcessDied"
    assert "SIGKILL" in job.error.message


async def test_a_process_that_cannot_be_replaced_at_once_is_replaced_later(client: Client, queue: str, start_worker: Start) -> None:
    worker = start_worker("--queues", queue, "--concurrency", "1")
    assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
    usual = resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    await client.create("die", queue=queue, retry=RetryPolicy(max_attempts=1))
    await asyncio.to_thread(worker.wait_for, "cannot start a process, trying again in 1 s")
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, usual)
    async with asyncio.timeout(SOON_S):
        assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2


async def test_a_handler_can_terminate_processes_that_it_has_forked(client: Client, queue: str, start_worker: Start) -> None:
    start_worker("--queues", queue, "--concurrency", "1")
    created = await client.create("terminate_processes", queue=queue)
    async with asyncio.timeout(SOON_S):
        assert (await client.wait(created.id)).result == [-signal.SIGTERM] * 50


async def test_a_terminate_stops_a_handler_that_is_in_the_middle_of_a_fork(
    client: Client, queue: str, start_worker: Start, tmp_path: Path
) -> None:
    start_worker("--queues", queue, "--concurrency", "1", "--terminate-grace", "30")
    file = tmp_path / "file"
    created = await client.create("fork_slowly", args=[str(file)], queue=queue)
    await until_running(client, created.id)
    await client.terminate(created.id)
    assert (await client.wait(created.id)).state is JobState.CANCELLED
    assert file.read_text() == "tidy"


@pytest.mark.parametrize("task", ["die_before_a_process", "stubborn_before_a_process"])
async def test_the_end_of_a_process_is_seen_while_one_that_it_has_forked_lives(
    client: Client, queue: str, start_worker: Start, tmp_path: Path, task: str
) -> None:
    start_worker("--queues", queue, "--concurrency", "1", "--terminate-grace", "0.5")
    pid_file = tmp_path / "pid"
    created = await client.create(task, args=[str(pid_file)], queue=queue, retry=RetryPolicy(max_attempts=1))
    if task == "stubborn_before_a_process":
        await until_running(client, created.id)
        await client.terminate(created.id)
    try:
        async with asyncio.timeout(SOON_S):
            job = await client.wait(created.id)
            assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
        assert job.state is (JobState.FAILED if task == "die_before_a_process" else JobState.CANCELLED)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_a_task_without_a_handler_goes_elsewhere(client: Client, queue: str, start_worker: Start) -> None:
    start_worker("--queues", queue, "--concurrency", "1")
    created = await client.create("unheard_of", queue=queue)
    assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
    assert (await client.get(created.id)).waiting_reason == "no_worker_for_task"


async def test_sigterm_finishes_within_the_grace_and_gives_back_the_rest(client: Client, queue: str, start_worker: Start) -> None:
    worker = start_worker("--queues", queue, "--concurrency", "2", "--prefetch", "1", "--stop-grace", "2", "--terminate-grace", "0.5")
    short = await client.create("wait_politely", args=[1.5], queue=queue)
    long = await client.create("deaf", queue=queue)
    await until_running(client, short.id)
    await until_running(client, long.id)
    queued = await client.create("add", args=[1], queue=queue)
    await until_running(client, queued.id, progress=False)
    assert await asyncio.to_thread(worker.terminate) == 0
    assert (await client.get(short.id)).result == "waited"
    for job in (await client.get(long.id), await client.get(queued.id)):
        assert (job.state, job.attempts, job.lost_count) == (JobState.PENDING, 0, 0)
    start_worker("--queues", queue, "--concurrency", "2")
    assert (await client.wait(queued.id)).result == 2


@pytest.mark.parametrize("transport", ["nng", "grpc"])
async def test_what_runs_through_a_restart_of_the_server_runs_once(tmp_path: Path, queue: str, start_worker: Start, transport: str) -> None:
    server = Millraced(tmp_path, "--session-timeout", "10s", "--heartbeat", "500ms").start()
    try:
        start_worker("--queues", queue, "--concurrency", "2", "--transport", transport, MILLRACE_ADDRESS=server.address)
        async with Client(server.address) as client:
            ending_while_down = await client.create("wait_politely", args=[1], queue=queue)
            running_through = await client.create("wait_politely", args=[6], queue=queue)
            await until_running(client, ending_while_down.id)
            await until_running(client, running_through.id)
            server.kill()
            await asyncio.sleep(1.5)
            server.start()
            for created in (ending_while_down, running_through):
                job = await client.wait(created.id)
                assert (job.result, job.deliveries) == ("waited", 1)
    finally:
        server.stop()


@pytest.mark.parametrize("stop", ["while it runs", "when it has ended"])
async def test_what_ends_while_the_server_is_away_is_handed_over_by_a_worker_that_stops(
    tmp_path: Path, queue: str, start_worker: Start, stop: str
) -> None:
    server = Millraced(tmp_path, "--session-timeout", "30s", "--reconnect-grace", "30s", "--heartbeat", "500ms").start()
    try:
        worker = start_worker("--queues", queue, "--concurrency", "1", MILLRACE_ADDRESS=server.address)
        async with Client(server.address) as client:
            created = await client.create("wait_politely", args=[2], queue=queue)
            await until_running(client, created.id)
            server.kill()
            if stop == "when it has ended":
                await asyncio.to_thread(worker.wait_for, "outcome=succeeded")
            worker.process.send_signal(signal.SIGTERM)
            for text in ("stopping", "outcome=succeeded"):
                await asyncio.to_thread(worker.wait_for, text)
            tries = worker.log.count("cannot")
            await asyncio.to_thread(wait_until, lambda: worker.process.poll() is not None or worker.log.count("cannot") > tries, "a try")
            server.start()
            assert await asyncio.to_thread(worker.process.wait, SOON_S) == 0
            job = await client.get(created.id)
            assert (job.state, job.result, job.deliveries) == (JobState.SUCCEEDED, "waited", 1)
    finally:
        server.stop()


async def test_a_worker_that_is_killed_leaves_no_process_behind(client: Client, queue: str, start_worker: Start) -> None:
    worker = start_worker("--queues", queue, "--concurrency", "1")
    created = await client.create("stubborn", queue=queue)
    await until_running(client, created.id)
    children = Path(f"/proc/{worker.process.pid}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    assert len(pids) == 1
    worker.process.kill()
    await asyncio.to_thread(wait_until, lambda: not Path(f"/proc/{pids[0]}/cmdline").exists(), "the child is gone")
    start_worker("--queues", queue, "--concurrency", "1")
    async with asyncio.timeout(SOON_S):
        while (job := await client.get(created.id)).deliveries < 2:
            await asyncio.sleep(0.05)
    assert (job.lost_count, job.attempts) == (1, 0)


async def test_a_worker_in_ones_own_program_uses_its_event_loop(client: Client, queue: str) -> None:
    registry, here = Registry(), asyncio.get_running_loop()

    @registry.task(queue=queue)
    async def same_loop(word: str) -> tuple[str, bool]:
        return word, asyncio.get_running_loop() is here

    worker = Worker(registry=registry, pool="asyncio", queues={queue: 1}, options=WorkerOptions(concurrency=4))
    serving = asyncio.create_task(worker.serve())
    assert (await client.wait((await client.create(same_loop.spec("yes"))).id)).result == ["yes", True]
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not [info async for info in client.workers.list(queue=queue)]


async def test_the_server_drains_a_worker(client: Client, queue: str, start_worker: Start) -> None:
    worker = start_worker("--queues", f"{queue}:3", "--concurrency", "2", "--label", "zone=a")
    created = await client.create("wait_politely", args=[1], queue=queue)
    await until_running(client, created.id)
    (info,) = [info async for info in client.workers.list(queue=queue)]
    assert (info.queues, info.labels, info.transport, info.state) == ({queue: 3}, {"zone": "a"}, "nng", "active")
    await client.workers.quiet(info.session_id, drain=True)
    assert await asyncio.to_thread(worker.process.wait, SOON_S) == 0
    assert (await client.get(created.id)).result == "waited"


async def test_auto_goes_on_over_grpc_where_the_worker_port_is_not_reached(client: Client, queue: str, start_worker: Start) -> None:
    worker = start_worker("--queues", queue, "--concurrency", "1", MILLRACE_WORKER_URL="ws://127.0.0.1:1")
    assert (await client.wait((await client.create("add", args=[1], queue=queue)).id)).result == 2
    assert "joined transport=grpc" in worker.log


async def test_a_script_can_hold_its_own_tasks(client: Client, queue: str, address: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "from millrace import Worker, task\n"
        "class Plain:\n"
        "    def encode(self, payload):\n"
        "        return payload\n"
        "    decode = encode\n"
        "@task\n"
        "def double(x: int) -> int:\n"
        "    return 2 * x\n"
        "if __name__ == '__main__':\n"
        f"    Worker(queues={{{queue!r}: 1}}, concurrency=1, codec=Plain()).run()\n"
    )
    worker = WorkerProcess([sys.executable, str(script)], tmp_path / "log", {"PYTHONPATH": str(CLIENT / "src")})
    try:
        assert (await client.wait((await client.create("double", args=[21], queue=queue)).id)).result == 42
    finally:
        assert await asyncio.to_thread(worker.terminate) == 0


async def test_reload_starts_anew_with_the_new_code(client: Client, queue: str, address: str, tmp_path: Path) -> None:
    module = tmp_path / "app.py"
    module.write_text("from millrace import task\n@task\ndef version() -> int:\n    return 1\n")
    command = [sys.executable, "-m", "millrace.worker.cli", "--app", "app", "--queues", queue, "--concurrency", "1", "--reload"]
    environment = {**os.environ, "PYTHONPATH": str(CLIENT / "src")}
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment)
    try:
        assert (await client.wait((await client.create("version", queue=queue)).id)).result == 1
        module.write_text("from millrace import task\n@task\ndef version() -> int:\n    return 22\n")

        async def result() -> object:
            return (await client.wait((await client.create("version", queue=queue)).id)).result

        async with asyncio.timeout(SOON_S):
            while await result() != 22:
                await asyncio.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_wrong_use_says_what_is_wrong(start_worker: Start, tmp_path: Path) -> None:
    (tmp_path / "empty_app.py").write_text("")
    path = os.pathsep.join([str(CLIENT / "src"), str(tmp_path)])
    for flags, app, text in (
        (("--queues", "a:0"), "tasks", "not a queue with a weight"),
        ((), "empty_app", "there are no tasks"),
        (("--label", "x"), "tasks", "not KEY=VALUE"),
    ):
        worker = start_worker(*flags, app=app, PYTHONPATH=os.pathsep.join([path, str(CLIENT / "tests")]))
        assert await asyncio.to_thread(worker.process.wait, SOON_S) == 2
        assert text in worker.log


async def test_handlers_mean_the_server_that_the_command_line_names(start_worker: Start, tmp_path: Path) -> None:
    names = ("ADDRESS", "CA", "CERTIFICATE", "KEY")
    (tmp_path / "curious_app.py").write_text(f"import os\nfor name in {names}:\n    print(name, os.environ.get('MILLRACE_' + name))\n")
    flags = [text for name in names for text in (f"--{name.lower()}", f"{name.lower()}.pem")]
    worker = start_worker(*flags, app="curious_app", PYTHONPATH=os.pathsep.join([str(CLIENT / "src"), str(tmp_path)]))
    assert await asyncio.to_thread(worker.process.wait, SOON_S) == 2
    assert "ADDRESS address.pem\nCA ca.pem\nCERTIFICATE certificate.pem\nKEY key.pem\n" in worker.log


def test_a_worker_without_a_server_waits_for_it(start_worker: Start) -> None:
    worker = start_worker("--concurrency", "1", MILLRACE_ADDRESS="127.0.0.1:1")
    worker.wait_for("cannot register at 127.0.0.1:1, trying again")
    assert worker.terminate() == 0


async def test_jobs_sent_ahead_survive_the_end_of_their_process(client: Client, queue: str, start_worker: Start) -> None:
    start_worker("--queues", queue, "--concurrency", "2", "--prefetch", "20", "--terminate-grace", "0.5")
    stuck = [await client.create("deaf", queue=queue) for _ in range(2)]
    for created in stuck:
        await until_running(client, created.id)
    ahead = [await client.create("add", args=[number], queue=queue) for number in range(10)]
    for created in ahead:
        await until_running(client, created.id, progress=False)
    await client.cancel(ahead[0].id)
    await client.terminate(ahead[1].id)
    for created in stuck:
        await client.terminate(created.id)
    ended = [await client.wait(created.id) for created in (*stuck, *ahead)]
    assert [job.state for job in ended] == [JobState.CANCELLED] * 4 + [JobState.SUCCEEDED] * 8
    assert [job.result for job in ended[4:]] == list(range(3, 11))
    assert all(job.deliveries == 1 for job in ended)
