# SPDX-License-Identifier: Apache-2.0
"""The millrace tool: tables for people, JSON for programs, errors that name the cure, exit codes, completion."""
import json
import re
import shutil
import subprocess
import threading
import time

import pytest

from harness import api, monitor
from harness.api import JobPriority, JobState
from harness.tools import environment, millrace
from harness.server import BIN
from harness.wait import SANITIZED, SOON_S, wait_until
from harness.worker import echo, failing

UNKNOWN = "00000000-0000-4000-8000-000000000000"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def test_create_with_words(shared, queue):
    made = millrace(shared, "job", "create", "send_email", "to=a@example.org", "retries:=3", "--priority", "high", "--delay", "10s",
                    "--queue", queue, "--label", "team=mail")
    job_id = made.out.strip()
    assert re.fullmatch(UUID, job_id)
    job = shared.client.job(job_id)
    assert (job.task, job.queue, job.priority, job.state) == ("send_email", queue, JobPriority.HIGH, JobState.SCHEDULED)
    assert json.loads(job.payload.json) == {"to": "a@example.org", "retries": 3}
    assert api.unix(job.run_at) - api.unix(job.created_at) == pytest.approx(10, abs=0.01)
    assert dict(job.labels) == {"team": "mail"}


def test_create_with_payloads(shared, queue, tmp_path):
    (tmp_path / "p.json").write_text('{"n": 12345678901234567890}', encoding="utf-8")
    (tmp_path / "p.bin").write_bytes(b"\xff\x00\xfe")

    def payload_of(*arguments, **options):
        return shared.client.job(millrace(shared, "job", "create", "t", "-q", queue, *arguments, **options).out.strip()).payload

    assert payload_of("--payload", "[1, 2]").json == "[1, 2]"
    assert payload_of("--payload", f"@{tmp_path}/p.json").json == '{"n": 12345678901234567890}'
    assert payload_of("--payload", f"@{tmp_path}/p.bin").data == b"\xff\x00\xfe"
    assert payload_of("--payload", "-", input='"from stdin"').json == '"from stdin"'


def test_create_and_wait(shared, make_worker, queue):
    make_worker(shared, [queue], handler=lambda d: echo(d) if d.task == "good" else failing("Bad", "it broke", permanent=True)(d))
    good = millrace(shared, "job", "create", "good", "a=1", "-q", queue, "--wait")
    assert "succeeded" in good.out and '{"a":"1"}' in good.out.replace(" ", "")
    bad = millrace(shared, "job", "create", "bad", "-q", queue, "--wait", code=4)
    assert "failed" in bad.out and "it broke" in bad.out
    slow = millrace(shared, "job", "create", "never", "-q", queue + "-x", "--wait", "--wait-timeout", "200ms", code=5)
    assert "pending" in slow.out and "no_worker_for_queue" in slow.out


def test_the_same_id_twice(shared, queue):
    job_id = api.new_id()
    for _ in range(2):
        assert millrace(shared, "job", "create", "t", "a=1", "-q", queue, "--id", job_id).out.strip() == job_id
    refused = millrace(shared, "job", "create", "t", "a=2", "-q", queue, "--id", job_id, code=1)
    assert "ALREADY_EXISTS" in refused.err and job_id in refused.err


def test_get_shows_everything_and_json_is_json(shared, make_worker, queue):
    client = shared.client
    worker = make_worker(shared, [queue])
    job = client.create("send", queue=queue, payload=api.json_payload('{"n": 9007199254740993}'), labels={"a": "b"})
    delivery = worker.take()
    worker.log(delivery, "hello log")
    worker.succeed(delivery, '"sent"')
    shown = millrace(shared, "job", "get", job.id, "--log").out
    for text in (job.id, "send", queue, "succeeded", "1 of 4", "a=b", '{"n": 9007199254740993}', "sent", "hello log"):
        assert text in shown, text
    seen = millrace(shared, "job", "get", job.id, "--output", "json").json
    assert (seen["id"], seen["task"]) == (job.id, "send") and "SUCCEEDED" in seen["state"].upper()
    assert "9007199254740993" in json.dumps(seen["payload"])


def test_list_is_a_table_and_json_lines(shared, queue):
    ids = [shared.client.create(f"t{n}", queue=queue).id for n in range(3)]
    lines = millrace(shared, "job", "list", "-q", queue).out.splitlines()
    assert lines[0].split()[:4] == ["id", "state", "task", "queue"]
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(ids)
    assert all(line.split()[1] == "pending" for line in lines[1:])
    # Columns are aligned.
    assert {line.index("pending") for line in lines[1:]} == {lines[0].index("state")}
    rows = millrace(shared, "job", "list", "-q", queue, "--task", "t1", "-o", "json").json
    rows = rows if isinstance(rows, list) else [rows]
    assert [r["id"] for r in rows] == [ids[1]]
    assert millrace(shared, "job", "list", "-q", queue, "--state", "failed").out == ""
    assert len(millrace(shared, "job", "list", "-q", queue, "--limit", "2").out.splitlines()) == 3


def test_cancel_retry_update_delete(shared, queue):
    client = shared.client
    job = client.create(queue=queue)
    assert "critical" in millrace(shared, "job", "update", job.id, "--priority", "critical").out
    assert client.job(job.id).priority == JobPriority.CRITICAL
    assert "cancelled" in millrace(shared, "job", "cancel", job.id, "--reason", "why not").out
    assert client.job(job.id).error.message == "why not"
    assert "pending" in millrace(shared, "job", "retry", job.id).out
    millrace(shared, "job", "delete", job.id, code=1)
    assert "1 cancelled" in millrace(shared, "job", "cancel", "--queue", queue).out
    assert "1 start anew" in millrace(shared, "job", "retry", "--queue", queue, "--state", "cancelled").out
    millrace(shared, "job", "cancel", job.id)
    assert "deleted" in millrace(shared, "job", "delete", job.id).out
    assert "NOT_FOUND" in millrace(shared, "job", "get", job.id, code=1).err
    for command in ("cancel", "retry"):
        assert "condition" in millrace(shared, "job", command, code=2).err


@pytest.mark.parametrize("option", [["--attempt-timeout", "5m"], ["--timeout", "1h"], ["--queue", "other"], ["--payload", "1"],
                                    ["--retention", "1d"], ["--unique-key", "k"], ["--concurrency-limit", "2"]], ids=lambda o: o[0][2:])
def test_update_refuses_what_cannot_be_changed(shared, queue, option):
    job = shared.client.create(queue=queue)
    refused = millrace(shared, "job", "update", job.id, "--priority", "high", *option, code=2)
    assert option[0] in refused.err and "can't be changed" in refused.err
    assert shared.client.job(job.id).priority == JobPriority.NORMAL


def test_wait(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    job = shared.client.create(queue=queue)
    assert "not ended" in millrace(shared, "job", "wait", job.id, "--timeout", "100ms", code=5).err
    worker.succeed(worker.take())
    assert "succeeded" in millrace(shared, "job", "wait", job.id).out
    millrace(shared, "job", "wait", UNKNOWN, code=1)


def test_a_look_does_not_wait(shared, queue):
    job_id = millrace(shared, "job", "create", "t", "-q", queue, "--wait", "--wait-timeout", "0s", code=5).out.split()[1]
    millrace(shared, "job", "wait", job_id, "--timeout", "0s", code=5)
    chain_id = millrace(shared, "chain", "create", "-q", queue, "one").out.strip()
    millrace(shared, "chain", "wait", chain_id, "--timeout", "0s", code=5)
    batch_id = millrace(shared, "batch", "create").out.strip()
    millrace(shared, "batch", "wait", batch_id, "--timeout", "0s", code=5)


def test_watch(shared, make_worker, queue):
    watch = subprocess.Popen([str(BIN / "millrace"), "job", "watch", "--queue", queue], stdout=subprocess.PIPE, text=True,
                             env=environment(shared))
    try:
        lines = []
        threading.Thread(target=lambda: lines.extend(iter(watch.stdout.readline, "")), daemon=True).start()
        # Whether it has begun to watch can only be seen by what it tells.
        job = shared.client.create(queue=queue)
        wait_until(lambda: any(job.id in line and "pending" in line for line in lines), "pending")
        make_worker(shared, [queue], handler=echo)
        wait_until(lambda: any(job.id in line and "succeeded" in line for line in lines), "succeeded")
    finally:
        watch.kill()
        watch.wait()


def test_a_watch_ends_with_its_reader(shared, queue):
    job = shared.client.create(queue=queue)
    with subprocess.Popen([str(BIN / "millrace"), "job", "watch", job.id], stdout=subprocess.PIPE, text=True,
                          env=environment(shared)) as watch:
        assert job.id in watch.stdout.readline()
        watch.stdout.close()
        try:
            assert watch.wait(SOON_S) == 1
        finally:
            watch.kill()


def test_ndjson_from_standard_input(shared, make_worker, queue):
    lines = "".join(json.dumps({"task": "t", "payload": {"json": {"n": n}}}) + "\n" for n in range(2500))
    made = millrace(shared, "job", "create", "--from", "-", "-q", queue, "--priority", "low", input=lines)
    ids = made.out.split()
    assert len(set(ids)) == 2500 and "2,500 created" in made.err
    assert shared.client.counts(queue) == {"pending": 2500}
    job = shared.client.job(ids[7])
    assert json.loads(job.payload.json) == {"n": 7} and job.priority == JobPriority.LOW


def test_ndjson_that_is_wrong_names_the_line(shared, queue):
    text = '{"task": "t"}\n{"task": \n'
    wrong = millrace(shared, "job", "create", "--from", "-", "-q", queue, input=text, code=2)
    assert ":2:" in wrong.err
    refused = millrace(shared, "job", "create", "--from", "-", "-q", queue, input='{"task": "t"}\n{"task": "a b"}\n', code=1)
    assert "task" in refused.err and "1 created" in refused.err


def test_a_file_that_cannot_be_read_is_not_an_empty_one(shared, queue, tmp_path):
    for command in (["job", "create", "--from", tmp_path], ["job", "create", "t", "--payload", f"@{tmp_path}"],
                    ["chain", "create", "--from", tmp_path], ["batch", "create", "--task", "t", "--from", tmp_path, "--seal"]):
        assert f"{tmp_path}: Is a directory" in millrace(shared, *command, "-q", queue, code=2).err
    assert millrace(shared, "job", "list", "-q", queue).out == ""
    assert "Is a directory" in millrace(None, "load", tmp_path, tmp_path / "new", code=1).err
    assert not (tmp_path / "new").exists()


def test_chains(shared, make_worker, queue):
    made = millrace(shared, "chain", "create", "-q", queue, "one", "a=1", "then", "two", "then", "three", "--on-failure", "oops")
    chain_id = made.out.strip().split()[0]
    chain = shared.client.GetChain(id=chain_id).chain
    assert [shared.client.job(j).task for j in chain.job_ids] == ["one", "two", "three"]
    assert "0 of 3" in millrace(shared, "chain", "get", chain_id).out
    make_worker(shared, [queue], handler=echo)
    assert "succeeded" in millrace(shared, "chain", "wait", chain_id).out
    assert chain_id in millrace(shared, "chain", "list", "--limit", "0").out
    other = millrace(shared, "chain", "create", "-q", queue + "-x", "one").out.strip().split()[0]
    assert "cancelled" in millrace(shared, "chain", "cancel", other).out
    millrace(shared, "chain", "wait", other, code=4)


def test_batches(shared, make_worker, queue):
    items = "".join(json.dumps({"payload": {"json": n}}) + "\n" for n in range(1500))
    made = millrace(shared, "batch", "create", "--task", "send", "-q", queue, "--from", "-", "--seal", "--description", "news",
                    "--on-complete", "done", input=items)
    batch_id = re.search(UUID, made.out)[0]
    assert shared.client.GetBatch(id=batch_id).batch.total == 1500
    shown = millrace(shared, "batch", "get", batch_id).out
    assert "1,500" in shown and "news" in shown
    make_worker(shared, [queue], concurrency=200, handler=echo)
    assert "succeeded" in millrace(shared, "batch", "wait", batch_id).out
    assert batch_id in millrace(shared, "batch", "list", "--limit", "0").out
    open_id = re.search(UUID, millrace(shared, "batch", "create", "--task", "send", "-q", queue + "-x").out)[0]
    millrace(shared, "batch", "add", open_id, "--from", "-", input='{"payload": {"json": 1}}\n')
    assert "1" in millrace(shared, "batch", "seal", open_id).out
    assert open_id in millrace(shared, "batch", "cancel", open_id).out
    assert "cancelled" in millrace(shared, "batch", "wait", open_id, code=4).out


def test_a_batch_that_broke_off_goes_on_when_its_command_is_repeated(shared, queue):
    lines = [json.dumps({"payload": {"json": n}}) + "\n" for n in range(1500)]
    batch_id = api.new_id()
    create = ["batch", "create", "--batch-id", batch_id, "--task", "send", "-q", queue]
    load = [*create, "--from", "-", "--seal"]

    def total():
        return shared.client.GetBatch(id=batch_id).batch.total

    millrace(shared, *create)
    with subprocess.Popen([str(BIN / "millrace"), *load], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                          env=environment(shared)) as broken:
        broken.stdin.write("".join(lines[:1200]))
        broken.stdin.flush()
        wait_until(lambda: total() == 1000, "a chunk is there")
        broken.kill()
    again = millrace(shared, *load, input="".join(lines))
    assert "500 added" in again.err and "already: 1" in again.err
    assert total() == 1500 and shared.client.counts(queue) == {"pending": 1500}
    # Sealed, it takes nothing more, and nothing more comes.
    assert "already: 2" in millrace(shared, *load, input="".join(lines)).err
    assert total() == 1500


def test_schedules(client, server, tmp_path):
    millrace(server, "schedule", "create", "daily", "report", "kind=full", "--cron", "0 9 * * *", "--zone", "Europe/Berlin")
    millrace(server, "schedule", "create", "ping", "health", "--every", "5m")
    listed = millrace(server, "schedule", "list").out
    assert "0 9 * * * Europe/Berlin" in listed and "every 5m" in listed and "next run" in listed
    assert "report" in millrace(server, "schedule", "get", "daily").out
    job_id = millrace(server, "schedule", "run", "daily").out.strip()
    assert json.loads(client.job(job_id).payload.json) == {"kind": "full"}
    millrace(server, "schedule", "pause", "ping")
    assert client.GetSchedule(name="ping").schedule.paused
    millrace(server, "schedule", "resume", "ping")
    millrace(server, "schedule", "update", "ping", "health", "--every", "10m")
    assert client.GetSchedule(name="ping").schedule.spec.timing.interval.seconds == 600
    times = millrace(server, "schedule", "preview", "--cron", "0 0 1 1 *", "--after", "2026-06-01T00:00:00Z", "--count", "2").out
    assert "2027-01-01T00:00:00" in times and "2028-01-01T00:00:00" in times
    (tmp_path / "s.json").write_text(json.dumps({"schedules": [{"name": "x", "timing": {"interval": "60s"}, "job": {"task": "t"}}]}),
                                     encoding="utf-8")
    assert "1 created" in millrace(server, "schedule", "declare", tmp_path / "s.json", "--owner", "shop").out
    millrace(server, "schedule", "delete", "ping", "daily")
    assert [s.spec.name for s in client.ListSchedules().schedules] == ["x"]
    wrong = millrace(server, "schedule", "create", "bad", "t", "--cron", "61 * * * *", code=1)
    assert "cron" in wrong.err and "INVALID_ARGUMENT" in wrong.err


def test_queues(shared, queue):
    client = shared.client
    client.create_many([api.JobSpec(task="t", queue=queue)] * 1234)
    row = next(line for line in millrace(shared, "queue", "list", "--limit", "0").out.splitlines() if line.startswith(queue))
    assert "1,234" in row
    assert "1,234" in millrace(shared, "queue", "get", queue).out
    millrace(shared, "queue", "pause", queue)
    assert "paused" in millrace(shared, "queue", "list", "--limit", "0").out
    millrace(shared, "queue", "resume", queue)
    millrace(shared, "queue", "update", queue, "--max-running", "3", "--mode", "weighted")
    settings = client.GetQueue(name=queue).queue.settings
    assert (settings.max_running.value, settings.mode) == (3, api.QueueMode.WEIGHTED)
    assert "1,234" in millrace(shared, "queue", "purge", queue).out
    assert client.counts(queue) == {"cancelled": 1234}
    assert "FAILED_PRECONDITION" in millrace(shared, "queue", "delete", queue, code=1).err


def test_workers_and_server_info(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    listed = millrace(shared, "worker", "list", "--queue", queue).out
    assert worker.session_id in listed and "0 of 10" in listed
    assert "quiet" in millrace(shared, "worker", "quiet", worker.session_id).out
    info = millrace(shared, "server", "info").out
    assert "rocksdb" in info and "sync" in info and shared.target in info
    assert millrace(shared, "server", "info", "-o", "json").json["store_backend"] == "rocksdb"


# ---- errors, exit codes, help ----

def test_an_unreachable_server_names_the_cure():
    for arguments in (["job", "list"], ["server", "info"], ["job", "create", "t"]):
        done = millrace(None, *arguments, code=3, MILLRACE_ADDRESS="localhost:1")
        assert "cannot reach localhost:1" in done.err and "MILLRACE_ADDRESS" in done.err and "millraced --dev" in done.err
        assert done.err.count("\n") == 1 and done.out == ""


@pytest.mark.parametrize("arguments, text", [
    (["explode"], "explode"), (["job", "explode"], "explode"), (["job", "get"], "usage"), (["job", "list", "--no-such"], "--no-such"),
    (["job", "create", "t", "novalue"], "key=value"), (["job", "create", "t", "--priority", "urgent"], "urgent"),
    (["job", "create", "t", "--delay", "soon"], "--delay"), (["job", "create", "t", "--at", "noon"], "--at"),
    (["job", "create", "t", "--payload", "{"], "JSON"), (["job", "create", "t", "--payload", "@/nowhere"], "/nowhere"),
    (["job", "list", "--state", "asleep"], "asleep"), (["job", "list", "--output", "xml"], "xml"),
    (["worker", "run"], "--handler"), (["worker", "run", "--handler", "x"], "task=command"),
    (["worker", "run", "--handler", "x=/no/such/program"], "/no/such/program"),
], ids=lambda value: "_".join(value) if isinstance(value, list) else "")
def test_wrong_usage_is_2_and_says_what(shared, arguments, text):
    done = millrace(shared, *arguments, code=2)
    assert text in done.err


def test_refusals_name_the_field(shared):
    done = millrace(shared, "job", "create", "not a name", code=1)
    assert "task" in done.err and "INVALID_ARGUMENT" in done.err
    done = millrace(shared, "job", "get", "42", code=1)
    assert "id" in done.err


def test_help_everywhere(shared):
    text = millrace(None, "--help").out
    for group in ("job create", "schedule create", "chain create", "batch create", "queue list", "worker run", "check", "repair",
                  "server info", "completion"):
        assert group in text
        assert "Usage" in millrace(shared, *group.split(), "--help").out
    assert "Exit codes" in text and "MILLRACE_ADDRESS" in text
    assert re.match(r"millrace \d+\.\d+\.\d+", millrace(None, "--version").out)


def test_completion_completes():
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    script = millrace(None, "completion", "bash").out

    def complete(*words):
        line = " ".join(words)
        text = f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n_millrace; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
        # The last word may be empty.
        text = text.replace(f"COMP_WORDS=({line})", "COMP_WORDS=(" + " ".join(f"'{w}'" for w in words) + ")")
        return subprocess.run([bash, "-c", text], capture_output=True, text=True, check=True).stdout.split()

    assert "job" in complete("millrace", "") and "schedule" in complete("millrace", "sch")
    assert {"create", "cancel"} <= set(complete("millrace", "job", "c"))
    assert "--priority" in complete("millrace", "job", "create", "--p")
    assert "#compdef millrace" in millrace(None, "completion", "zsh").out
    millrace(None, "completion", "tcsh", code=2)


def test_check_tells_what_it_looked_at(server, tmp_path):
    server.client.create_many([api.JobSpec(task="t")] * 10)
    server.stop()
    done = millrace(None, "check", server.data)
    assert "10 jobs" in done.out and "0 problems" in done.out
    assert millrace(None, "check", tmp_path / "nowhere", code=1).err


def test_check_refuses_a_store_in_use(server):
    done = millrace(None, "check", server.data, code=None)
    assert done.code in (0, 1)  # reading beside a running server may work or be refused, and must never harm it
    assert server.client.create().state == JobState.PENDING
    repaired = millrace(None, "repair", "--accept-loss", server.data, code=1)
    assert repaired.err


def test_output_into_a_closed_pipe(shared, queue):
    shared.client.create_many([api.JobSpec(task="t", queue=queue)] * 1000)
    done = subprocess.run(f"'{BIN / 'millrace'}' job list --all -q {queue} | head -1", shell=True, capture_output=True, text=True,
                          env=environment(shared), timeout=60, check=False)
    assert done.stdout.startswith("id") and "Broken" not in done.stderr and done.returncode == 0


def test_a_long_list_is_one_table_and_is_read_as_far_as_somebody_reads_it(server):
    client = server.client
    for _ in range(5):
        client.create_many([api.JobSpec(task="t")] * 1000)
    lines = millrace(server, "job", "list", "--all").out.splitlines()
    assert len(lines) == 5001 and len({line.index("pending") for line in lines[1:]} | {lines[0].index("state")}) == 1
    for output in ("table", "json"):
        before = monitor.metrics(server)["millrace_requests_total"]
        with subprocess.Popen([str(BIN / "millrace"), "job", "list", "--all", "-o", output], stdout=subprocess.PIPE, text=True,
                              env=environment(server)) as listing:
            assert listing.stdout.readline()
            listing.stdout.close()
            assert listing.wait(SOON_S) == 1
        assert monitor.metrics(server)["millrace_requests_total"] - before < 5


def test_output_that_cannot_be_written_is_a_failure(shared, queue):
    shared.client.create(queue=queue)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(BIN / "millrace"), "job", "list", "-q", queue], stdout=full, stderr=subprocess.PIPE, text=True,
                              env=environment(shared), timeout=60, check=False)
    assert done.returncode == 1 and "No space left on device" in done.stderr


@pytest.mark.skipif(SANITIZED, reason="built with a sanitizer, a server needs longer to start than the tool tries again: a second")
def test_a_server_that_comes_back_in_time_is_waited_for(server, make_worker):
    """UNAVAILABLE is retried by itself: a restart in the middle of a wait costs nothing."""
    job = server.client.create()
    waiting = subprocess.Popen([str(BIN / "millrace"), "job", "wait", job.id], stdout=subprocess.PIPE, text=True, env=environment(server))
    time.sleep(0.3)  # so that it probably waits already; either way it must succeed
    server.restart()
    make_worker(server, handler=echo)
    out, _ = waiting.communicate(timeout=SOON_S)
    assert waiting.returncode == 0 and "succeeded" in out
