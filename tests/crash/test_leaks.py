# SPDX-License-Identifier: Apache-2.0
"""Start, work, stop under valgrind: nothing that was lost, and nothing read or written where it must not be."""
import re

import pytest

from harness import api
from harness.api import BatchState, ChainState, JobState
from harness.tools import ProcessWorker
from harness.wait import SANITIZED

# Valgrind runs one thread at a time, twenty times slower.
PATIENCE_S = 120
CALM = {"--session-timeout": "60s", "--reconnect-grace": "30s", "--heartbeat": "2s"}


def valgrind(directory):
    """The command, and where it writes."""
    log = directory / "valgrind.%p.log"
    return ["valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect",
            "--num-callers=30", "--error-exitcode=99", f"--log-file={log}"]


def complaints(directory):
    """What valgrind had to say, but of itself."""
    lines = [line for path in directory.glob("valgrind.*.log") for line in path.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if re.match(r"==\d+== (?!Warning: )", line))


@pytest.mark.timeout(600)
@pytest.mark.skipif(SANITIZED, reason="valgrind can't run what a sanitizer was built into")
def test_no_leak_on_start_work_stop(make_server, tmp_path):
    server = make_server(CALM, start=False)
    server.wrapper = valgrind(tmp_path)
    server.patience_s = PATIENCE_S
    server.start()
    client = server.client
    with ProcessWorker(server, tmp_path / "worker", {"work": "cat\n"}, "--concurrency", "4"):
        succeeded = client.create(payload=api.json_payload('{"n":1}'))
        assert client.wait(succeeded.id, PATIENCE_S).state == JobState.SUCCEEDED
        delayed = client.create(delay=api.seconds(0.5))
        assert client.wait(delayed.id, PATIENCE_S).state == JobState.SUCCEEDED
        chain = client.CreateChain(steps=[api.JobSpec(task="work")] * 3).chain
        assert client.WaitChain(id=chain.id, timeout=api.seconds(PATIENCE_S), timeout_s=PATIENCE_S).chain.state == ChainState.SUCCEEDED
        batch = client.CreateBatch(items=[api.JobSpec(task="work")] * 20, seal=True, on_complete=api.JobSpec(task="work")).batch
        assert client.WaitBatch(id=batch.id, timeout=api.seconds(PATIENCE_S), timeout_s=PATIENCE_S).batch.state == BatchState.SUCCEEDED
    # What fails, waits, is watched, listed, cancelled, purged, refused.
    waiting = client.create(queue="idle", unique_key=api.UniqueKey(key="k"), labels={"a": "b"})
    with pytest.raises(api.Failure):
        client.create(queue="idle", unique_key=api.UniqueKey(key="k"))
    with pytest.raises(api.Failure):
        client.create(queue="not a name")
    client.CreateSchedule(schedule=api.ScheduleSpec(name="s", timing=api.ScheduleTiming(cron="0 9 * * *"), job=api.JobSpec(task="work")))
    assert client.list(queues=["idle"]) and client.ListQueues().queues
    client.CancelJob(id=waiting.id)
    client.create_many([api.JobSpec(task="work", queue="idle")] * 50)
    assert client.PurgeQueue(name="idle").purged == 50
    server.stop()
    assert not complaints(tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.skipif(SANITIZED, reason="valgrind can't run what a sanitizer was built into")
def test_no_leak_in_the_worker_and_the_tool(server, tmp_path):
    worker = ProcessWorker(server, tmp_path / "worker", {"work": "cat\n"})
    worker.command = valgrind(tmp_path) + ["--trace-children=no"] + worker.command
    with worker:
        # Valgrind knows no pidfd: the end of the program is noticed all the same.
        job = server.client.create(payload=api.json_payload('"hello"'))
        assert server.client.wait(job.id, PATIENCE_S).state == JobState.SUCCEEDED
    assert not complaints(tmp_path)
