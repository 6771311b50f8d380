# SPDX-License-Identifier: Apache-2.0
"""`millrace worker run`: a program per job."""
import json
import pathlib
import signal
import sys
import time

import pytest

from harness import api
from harness.api import AttemptOutcome, JobState, WorkerState
from harness.wait import SOON_S, never, wait_until

FAST = api.RetryPolicy(kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05))


def run(server, make_process_worker, script, *flags, payload=None, **spec):
    """Runs one job through a script and returns it as it ended."""
    make_process_worker(server, {"work": script}, *flags)
    fields = {"payload": api.json_payload(payload)} if payload else {}
    return server.client.wait(server.client.create(**fields, **spec).id)


def test_payload_in_result_out_errors_logged(server, make_process_worker):
    job = run(server, make_process_worker, 'echo working >&2\nread line\necho "{\\"got\\": $line}"\necho done >&2\n', payload='{"to":"a"}')
    assert (job.state, json.loads(job.result.json)) == (JobState.SUCCEEDED, {"got": {"to": "a"}})
    assert server.client.log(job.id) == ["working", "done"]
    (worker,) = server.client.ListWorkers().workers
    assert (worker.state, list(worker.tasks), worker.queues[0].name) == (WorkerState.ACTIVE, ["work"], "default")


def test_environment(server, make_process_worker):
    script = 'env | grep ^MILLRACE_ | sort | grep -v ADDRESS >&2; echo "\\"$MILLRACE_JOB_ID $TRACEPARENT\\""\n'
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job = run(server, make_process_worker, script, traceparent=parent, retry_policy=api.RetryPolicy(max_attempts=7))
    assert json.loads(job.result.json) == f"{job.id} {parent}"
    seen = dict(line.split("=", 1) for line in server.client.log(job.id))
    assert {k: seen[k] for k in ("MILLRACE_JOB_ID", "MILLRACE_TASK", "MILLRACE_QUEUE", "MILLRACE_ATTEMPT", "MILLRACE_MAX_ATTEMPTS",
                                 "MILLRACE_DELIVERY")} == {
        "MILLRACE_JOB_ID": job.id, "MILLRACE_TASK": "work", "MILLRACE_QUEUE": "default", "MILLRACE_ATTEMPT": "1",
        "MILLRACE_MAX_ATTEMPTS": "7", "MILLRACE_DELIVERY": "1"}
    assert "MILLRACE_DEADLINE" in seen


def test_previous_result_in_a_chain(server, make_process_worker):
    make_process_worker(server, {"first": "echo '{\"n\": 1}'\n", "second": 'echo "$MILLRACE_PREVIOUS_RESULT"\n'})
    chain = server.client.CreateChain(steps=[api.JobSpec(task="first"), api.JobSpec(task="second", wants_previous_result=True)]).chain
    assert json.loads(server.client.WaitChain(id=chain.id).chain.result.json) == {"n": 1}


@pytest.mark.parametrize("script, expected", [("true\n", ""), ("echo hello\n", '"hello"'), ("echo 42\n", "42"), ("printf '[1, 2]'\n", "[1, 2]")],
                         ids=["nothing", "text", "number", "array"])
def test_results(server, make_process_worker, script, expected):
    job = run(server, make_process_worker, script)
    assert (job.state, job.result.json) == (JobState.SUCCEEDED, expected)


def test_binary_result(server, make_process_worker):
    job = run(server, make_process_worker, "printf '\\377\\000\\376'\n")
    assert job.result.data == b"\xff\x00\xfe"


def test_a_result_beyond_the_limit_is_left_out(server, make_process_worker):
    job = run(server, make_process_worker, "head -c 2000000 /dev/zero | tr '\\0' x\n")
    assert job.state == JobState.SUCCEEDED and job.result_omitted_reason and not job.HasField("result")


def test_a_large_payload_and_a_program_that_reads_nothing(server, make_process_worker):
    big = json.dumps("p" * 1_000_000)
    job = run(server, make_process_worker, "wc -c\n", payload=big)
    assert int(job.result.json) in (len(big), len(big) + 1)
    make_process_worker(server, {"ignore": "echo 1\n"})
    other = server.client.create("ignore", payload=api.json_payload(big))
    assert server.client.wait(other.id).state == JobState.SUCCEEDED


def test_a_non_zero_exit_is_a_failure_and_retried(server, make_process_worker):
    job = run(server, make_process_worker, "echo cannot reach mail server >&2; exit 3\n",
              retry_policy=api.RetryPolicy(max_attempts=2, kind=api.BackoffKind.CONSTANT, initial=api.seconds(0.05)))
    assert (job.state, job.attempts) == (JobState.FAILED, 2)
    assert "3" in job.error.message and "cannot reach mail server" in job.error.message


def test_78_is_for_good(server, make_process_worker):
    job = run(server, make_process_worker, "exit 78\n")
    assert (job.state, job.attempts) == (JobState.FAILED, 1)


def test_75_is_later(server, make_process_worker):
    make_process_worker(server, {"work": "echo 600s; exit 75\n"})
    job = server.client.create()
    seen = server.wait_for_state(job.id, JobState.RETRYING, JobState.SCHEDULED)
    assert api.unix(seen.run_at) - api.unix(seen.history[-1].finished_at) == pytest.approx(600, abs=1)


def test_killed_by_a_signal(server, make_process_worker):
    job = run(server, make_process_worker, "kill -9 $$\n", retry_policy=api.RetryPolicy(max_attempts=1))
    assert job.state == JobState.FAILED and "9" in job.error.message


def test_cancel_reaches_the_program(server, make_process_worker):
    make_process_worker(server, {"work": "trap 'echo stopping >&2; exit 0' TERM\necho up >&2\nwhile :; do sleep 0.1; done\n"})
    job = server.client.create()
    wait_until(lambda: "up" in server.client.log(job.id) or server.client.job(job.id).HasField("started_at"), "it runs")
    time.sleep(0.3)  # lets the shell set its trap; the test does not depend on it
    server.client.CancelJob(id=job.id)
    ended = server.client.wait(job.id)
    assert ended.state in (JobState.CANCELLED, JobState.SUCCEEDED)


def test_terminate_a_stuck_program_and_its_children(server, make_process_worker, tmp_path):
    pids = tmp_path / "pids"
    script = f"trap '' TERM\nsleep 1000 &\necho $$ $! > {pids}.part; mv {pids}.part {pids}\nwhile :; do sleep 1; done\n"
    make_process_worker(server, {"work": script}, "--kill-grace", "300ms")
    job = server.client.create()
    wait_until(pids.exists, "it runs")
    server.client.CancelJob(id=job.id, terminate=True)
    ended = server.client.wait(job.id)
    assert ended.state == JobState.CANCELLED
    assert ended.history[-1].outcome == AttemptOutcome.CANCELLED
    for pid in pids.read_text(encoding="ascii").split():
        wait_until(lambda p=pid: not is_running(p), f"process {pid} is gone")


def is_running(pid):
    """A process lives and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_program_outlives_a_worker_that_ends_by_force(server, make_process_worker, tmp_path):
    script = f"trap 'echo told >&2' TERM\necho $$ > {tmp_path}/pid\necho up >&2\nwhile :; do sleep 0.1; done\n"
    worker = make_process_worker(server, {"work": script}, "--grace", "0s", "--kill-grace", "10m")
    job = server.client.create()
    wait_until(lambda: server.client.log(job.id) == ["up"], "it runs")
    server.client.CancelJob(id=job.id)
    wait_until(lambda: "told" in server.client.log(job.id), "the cancel has come to the worker before its own end does")
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(2 * SOON_S) == 75
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the program is gone")
    wait_until(lambda: server.client.job(job.id).state == JobState.CANCELLED, "nothing of it runs any more")


def test_a_timeout_kills_the_program(server, make_process_worker, tmp_path):
    pid = tmp_path / "pid"
    make_process_worker(server, {"work": f"trap '' TERM\necho $$ > {pid}.part; mv {pid}.part {pid}\nwhile :; do sleep 1; done\n"},
                        "--kill-grace", "300ms")
    job = server.client.create(attempt_timeout=api.seconds(0.5), retry_policy=api.RetryPolicy(max_attempts=1))
    ended = server.client.wait(job.id)
    assert (ended.state, ended.error.type) == (JobState.FAILED, "TIMEOUT")
    wait_until(lambda: not is_running(pid.read_text(encoding="ascii").strip()), "the program is gone")


# More than a worker can read, as each empty line is one for the log, from a pipe that is never empty.
FLOOD = f"""{sys.executable} -c "import fcntl; fcntl.fcntl(2, fcntl.F_SETPIPE_SZ, 1 << 20)"
for n in 1 2 3 4 5; do yes "" >&2 & done
"""


def test_a_timeout_ends_a_program_that_floods_its_log(server, make_process_worker, tmp_path):
    pid = tmp_path / "pid"
    make_process_worker(server, {"work": f"echo $$ > {pid}.part; mv {pid}.part {pid}\n{FLOOD}wait\n"})
    job = server.client.create(attempt_timeout=api.seconds(2), retry_policy=api.RetryPolicy(max_attempts=1))
    ended = server.client.wait(job.id)
    assert (ended.state, ended.error.type) == (JobState.FAILED, "TIMEOUT")
    wait_until(lambda: not is_running(pid.read_text(encoding="ascii").strip()), "the program is gone")


def test_a_cancel_ends_a_program_that_floods_its_log(server, make_process_worker):
    make_process_worker(server, {"work": FLOOD + "wait\n"})
    job = server.client.create()
    wait_until(lambda: server.client.log(job.id), "it floods")
    server.client.CancelJob(id=job.id)
    assert server.client.wait(job.id).state == JobState.CANCELLED


def test_a_program_ends_though_its_child_floods_on(server, make_process_worker, tmp_path):
    """The child is out of its process group, as a daemon would be: it does not end with the program."""
    up = tmp_path / "up"
    script = f"setsid sh -c '{FLOOD}touch {up}\nwait' &\nwhile ! [ -e {up} ]; do sleep 0.02; done\necho 1\n"
    job = run(server, make_process_worker, script)
    assert (job.state, job.result.json) == (JobState.SUCCEEDED, "1")


def test_concurrency(server, make_process_worker, tmp_path):
    make_process_worker(server, {"work": f"echo x >> {tmp_path}/running\nwhile ! [ -e {tmp_path}/go ]; do sleep 0.05; done\n"},
                        "--concurrency", "3")
    ids = server.client.create_many([api.JobSpec(task="work")] * 5)
    running = tmp_path / "running"
    wait_until(lambda: running.exists() and running.read_text() == "x\n" * 3, "three run")
    never(lambda: running.read_text() != "x\n" * 3, "more than three", 0.4)
    (tmp_path / "go").touch()
    for job_id in ids:
        assert server.client.wait(job_id).state == JobState.SUCCEEDED


def test_sigterm_finishes_what_runs_and_gives_back_the_rest(server, make_process_worker, tmp_path):
    client = server.client
    script = f"touch {tmp_path}/$MILLRACE_JOB_ID\nread seconds\nsleep $seconds\necho 1\n"
    worker = make_process_worker(server, {"work": script}, "--grace", "2s", "--kill-grace", "200ms", "--concurrency", "2")
    short = client.create(payload=api.json_payload("0.7"))
    long = client.create(payload=api.json_payload("60"))
    for job in (short, long):
        wait_until((tmp_path / job.id).exists, "it runs")
    after = client.create()
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(SOON_S) == 0
    assert client.job(short.id).state == JobState.SUCCEEDED
    released = client.job(long.id)
    assert (released.state, released.attempts, released.lost_count) == (JobState.PENDING, 0, 0)
    assert released.history[-1].outcome == AttemptOutcome.RELEASED
    assert client.job(after.id).deliveries == 0
    assert not client.ListWorkers().workers


def test_two_tasks_a_wildcard_and_weights(server, make_process_worker):
    make_process_worker(server, {"a": "echo 1\n", "*": "echo 2\n"}, queues=["x:5", "y"])
    client = server.client
    assert client.wait(client.create("a", queue="x").id).result.json == "1"
    assert client.wait(client.create("else", queue="y").id).result.json == "2"
    (worker,) = client.ListWorkers().workers
    assert {(q.name, q.weight) for q in worker.queues} == {("x", 5), ("y", 1)}


@pytest.mark.parametrize("transport", ["nng", "grpc"])
def test_transports(server, make_process_worker, transport):
    job = run(server, make_process_worker, "echo 1\n", "--transport", transport)
    assert job.state == JobState.SUCCEEDED
    assert server.client.ListWorkers().workers[0].transport == transport


def test_a_program_that_is_not_there(server, make_process_worker, tmp_path):
    worker = make_process_worker(server, {"work": "true\n"})
    worker.wait_attached(server.client)
    next(worker.directory.glob("work.sh")).unlink()
    job = server.client.create(retry_policy=api.RetryPolicy(max_attempts=1))
    ended = server.client.wait(job.id)
    assert ended.state == JobState.FAILED and "work.sh" in ended.error.message
    assert tmp_path


def test_it_starts_before_the_server_and_joins_later(server, make_process_worker):
    server.stop()
    worker = make_process_worker(server, {"work": "echo 1\n"})
    never(lambda: worker.process.poll() is not None, "it gave up at once", 0.5)
    server.start()
    assert server.client.wait(server.client.create().id).state == JobState.SUCCEEDED


def test_two_hundred_jobs_over_two_workers(server, make_process_worker):
    for _ in range(2):
        make_process_worker(server, {"work": "cat\n"}, "--quiet", "--concurrency", "8")
    client = server.client
    ids = client.create_many([api.JobSpec(task="work", payload=api.json_payload(f"[{n}]")) for n in range(200)])
    for n, job_id in enumerate(ids):
        job = client.wait(job_id, 60)
        assert (job.state, job.result.json, job.deliveries) == (JobState.SUCCEEDED, f"[{n}]", 1)
