# SPDX-License-Identifier: Apache-2.0
"""/metrics: what operators and their alerts count on."""
import collections
import importlib
import re
import subprocess
import sys

from harness import api
from harness.api import JobPriority
from harness.monitor import get, metrics
from harness.tools import find_program
from harness.wait import wait_until
from harness.worker import echo

CREATED, FINISHED = "millrace_jobs_created_total", "millrace_jobs_finished_total"


def test_jobs_are_counted_by_queue_task_and_priority(server, make_worker):
    client = server.client
    worker = make_worker(server, ["mail"], handler=echo)
    for job_id in client.create_many([api.JobSpec(task="send", queue="mail")] * 25):
        client.wait(job_id)
    worker.close()
    gone = client.create("send", queue="mail", priority=JobPriority.CRITICAL).id
    client.CancelJob(id=gone)
    client.create("send", queue="mail", delay=api.seconds(60))
    seen = metrics(server)
    assert seen[CREATED + '{queue="mail",task="send",priority="normal"}'] == 26
    assert seen[CREATED + '{queue="mail",task="send",priority="critical"}'] == 1
    assert seen[FINISHED + '{queue="mail",task="send",priority="normal",state="succeeded"}'] == 25
    assert seen[FINISHED + '{queue="mail",task="send",priority="critical",state="cancelled"}'] == 1
    for state, count in {"succeeded": 25, "cancelled": 1, "scheduled": 1, "pending": 0, "running": 0, "failed": 0}.items():
        assert seen[f'millrace_queue_jobs{{queue="mail",state="{state}"}}'] == count, state


def test_a_create_that_is_taken_back_is_not_counted(server):
    client = server.client
    client.create("once", queue="u", unique_key=api.UniqueKey(key="k"))
    with api.fails("ALREADY_EXISTS"):
        client.CreateChain(steps=[api.JobSpec(task="first", queue="u"),
                                  api.JobSpec(task="once", queue="u", unique_key=api.UniqueKey(key="k"))])
    seen = metrics(server)
    assert seen[CREATED + '{queue="u",task="once",priority="normal"}'] == 1
    assert CREATED + '{queue="u",task="first",priority="normal"}' not in seen


def test_times_of_waiting_and_running(server, make_worker):
    client = server.client
    ids = client.create_many([api.JobSpec(task="work", queue="slow")] * 3)
    wait_until(lambda: metrics(server)['millrace_queue_oldest_job_age_seconds{queue="slow"}'] > 1, "they grow old")
    make_worker(server, ["slow"], handler=echo)
    for job_id in ids:
        client.wait(job_id)
    seen = metrics(server)
    labels = 'queue="slow",priority="normal"'
    assert seen[f"millrace_job_wait_seconds_count{{{labels}}}"] == 3
    assert seen[f"millrace_job_wait_seconds_sum{{{labels}}}"] > 3
    assert seen[f'millrace_job_wait_seconds_bucket{{{labels},le="1"}}'] == 0
    assert seen[f'millrace_job_wait_seconds_bucket{{{labels},le="+Inf"}}'] == 3
    assert seen['millrace_job_run_seconds_count{queue="slow",task="work"}'] == 3
    assert seen['millrace_queue_oldest_job_age_seconds{queue="slow"}'] == 0


def test_jobs_without_worker_and_credit(server, make_worker):
    client = server.client
    client.create_many([api.JobSpec(task="known", queue="q")] * 5 + [api.JobSpec(task="unknown", queue="q")] * 3)
    name = 'millrace_queue_jobs_without_worker{queue="q"}'
    assert metrics(server)[name] == 8
    make_worker(server, ["q"], tasks=["known"], concurrency=2)
    wait_until(lambda: metrics(server)[name] == 3, "only those that nobody handles")
    seen = metrics(server)
    assert (seen['millrace_credit{state="used"}'], seen['millrace_credit{state="free"}']) == (2, 0)
    assert seen['millrace_sessions{state="active"}'] == 1


def test_lateness_of_schedules(timed_server, clock):
    client = timed_server.client
    timing = api.ScheduleTiming(interval=api.seconds(3600))
    client.CreateSchedule(schedule=api.ScheduleSpec(name="hourly", timing=timing, job=api.JobSpec(task="work")))
    assert metrics(timed_server)["millrace_schedule_lateness_seconds_count"] == 0
    clock.advance(3601 + 300)
    wait_until(lambda: metrics(timed_server)["millrace_schedule_lateness_seconds_count"] == 1, "it ran")
    seen = metrics(timed_server)
    assert 200 < seen["millrace_schedule_lateness_seconds_sum"] < 400
    assert seen["millrace_schedules"] == 1


def test_the_number_of_series_is_bounded(server):
    client = server.client
    client.create("work", queue="before")
    for part in range(2):
        client.create_many([api.JobSpec(task="work", queue=f"queue-{part}-{i}") for i in range(150)])
    client.create_many([api.JobSpec(task=f"task-{i}", queue="before") for i in range(1000)])
    client.create("other", queue="other")  # a name like any other: no series twice, which metrics() checks
    seen = metrics(server)
    labels = collections.defaultdict(set)
    for name in seen:
        for label, value in re.findall(r'(\w+)="([^"]*)"', name):
            labels[label].add(value)
    assert len(labels["queue"]) == 101 and {"before", "other"} <= labels["queue"]
    assert len(labels["task"]) <= 501 and "other" in labels["task"]
    assert sum(value for name, value in seen.items() if name.startswith(CREATED)) == 1302
    assert sum(value for name, value in seen.items() if re.match(r'millrace_queue_jobs\{.*"pending"', name)) == 1302


def test_how_the_store_does(server):
    server.client.create_many([api.JobSpec(task="work")] * 500)
    seen = metrics(server)
    for name in ("millrace_batch_rows", "millrace_store_write_seconds", "millrace_sync_seconds"):
        assert seen[f"{name}_count"] > 0 and seen[f"{name}_sum"] > 0, name
    assert seen["millrace_batch_rows_sum"] >= 1000  # each job has at least two
    assert seen['millrace_store_disk_bytes{kind="log"}'] > 0
    assert seen["millrace_store_disk_free_bytes"] > 0 and seen["millrace_store_write_stalled"] == 0
    assert seen["millrace_engine_answers"] == 1 and "millrace_mailbox_depth" in seen
    assert seen["process_resident_memory_bytes"] > 0


def test_promtool_finds_nothing_to_mend(server, make_worker):
    make_worker(server, handler=echo)
    server.client.wait(server.client.create().id)
    promtool = find_program("promtool")
    assert promtool, "promtool is missing: it comes with the package prometheus (tools/packages.txt)"
    done = subprocess.run([promtool, "check", "metrics"], input=get(server, "/metrics")[1], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_alerts_and_dashboard_speak_of_metrics_that_exist(server, make_worker):
    make_worker(server, handler=echo)
    server.client.wait(server.client.create().id)
    sys.path.insert(0, str(api.REPOSITORY / "tools"))
    wanted = importlib.import_module("prometheus").metric_names()
    there = {re.sub(r"\{.*", "", name) for name in metrics(server)}
    assert len(wanted) > 20 and wanted <= there, wanted - there
