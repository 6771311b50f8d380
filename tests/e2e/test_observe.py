# SPDX-License-Identifier: Apache-2.0
"""What operators look at besides metrics: the log and its level, a queue's last hour, health to be watched."""
import json
import re

import grpc
import pytest

from harness import api
from harness.api import LogLevel, fails
from harness.tools import millrace
from harness.wait import wait_until
from harness.worker import echo, failing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def events(server, **wanted):
    """Lines of the JSON log that have these values."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]


@pytest.fixture(name="json_server")
def _json_server(make_server):
    return make_server({"--log-format": "json"})


# ---- the log ----

def test_a_dead_letter_is_a_warning_with_job_and_trace(json_server, make_worker):
    client = json_server.client
    make_worker(json_server, handler=failing("Smtp\"Error", "hunter2", permanent=True))
    job = client.create("send", traceparent=TRACEPARENT, payload=api.json_payload('"hunter2"'))
    client.wait(job.id)
    line = wait_until(lambda: events(json_server, event="job failed"), "the line")[0]
    assert (line["level"], line["job"], line["task"], line["queue"]) == ("warning", job.id, "send", "default")
    assert (line["trace"], line["error"], line["attempts"]) == (TRACE, 'Smtp"Error', "1")
    assert "hunter2" not in json_server.log()
    assert not events(json_server, level="debug")


def test_a_flood_of_dead_letters_does_not_flood_the_log(json_server, make_worker):
    client = json_server.client
    client.create_many([api.JobSpec(task="send")] * 1000)
    make_worker(json_server, handler=failing("E", "no", permanent=True), concurrency=1000)
    wait_until(lambda: client.counts("default").get("failed") == 1000, "all have failed")
    counted = wait_until(lambda: events(json_server, event="jobs failed"), "the rest is counted")
    wait_until(lambda: len(events(json_server, event="job failed")) + sum(int(line["not_logged"]) for line in counted) <= 1000, "no more")
    assert len(events(json_server, event="job failed")) < 1000


def test_the_log_level_changes_at_run_time(json_server, make_worker):
    client = json_server.client
    make_worker(json_server, handler=echo)
    client.wait(client.create("quiet", traceparent=TRACEPARENT).id)
    assert client.SetLogLevel().level == LogLevel.INFO  # tells only
    answer = client.SetLogLevel(level=LogLevel.DEBUG)
    assert (answer.previous_level, answer.level) == (LogLevel.INFO, LogLevel.DEBUG)
    job = client.create("loud", traceparent=TRACEPARENT)
    client.wait(job.id)
    wait_until(lambda: events(json_server, job=job.id, state="succeeded", trace=TRACE), "its end")
    assert events(json_server, job=job.id, event="job created", trace=TRACE)
    assert not events(json_server, task="quiet")
    millrace(json_server, "server", "log-level", "error")
    assert millrace(json_server, "server", "log-level").out == "error\n"
    other = client.create("silent")
    client.wait(other.id)
    assert not events(json_server, job=other.id)


def test_a_log_level_that_is_none(shared):
    with fails("INVALID_ARGUMENT"):
        shared.client.SetLogLevel(level=17)
    assert "none of" in millrace(shared, "server", "log-level", "chatty", code=2).err


# ---- the last hour ----

def test_the_last_hour_of_a_queue_minute_by_minute(timed_server, make_worker, clock):
    client = timed_server.client
    clock.set(1_700_000_040)  # a minute begins
    make_worker(timed_server, ["q"], handler=echo)
    assert not client.GetQueue(name="q").last_hour
    for count in (3, 0, 5):
        for job_id in client.create_many([api.JobSpec(task="work", queue="q")] * count):
            client.wait(job_id)
        clock.advance(60)
    hour = client.GetQueue(name="q").last_hour
    assert len(hour) == 60
    assert [minute.created for minute in hour[-4:]] == [3, 0, 5, 0] and [minute.finished for minute in hour[-4:]] == [3, 0, 5, 0]
    assert all(minute.created == 0 for minute in hour[:-4])
    assert all(after.started_at.seconds - before.started_at.seconds == 60 for before, after in zip(hour, hour[1:]))
    assert "at most 5/min" in millrace(timed_server, "queue", "get", "q").out
    clock.advance(57 * 60)
    assert [minute.created for minute in client.GetQueue(name="q").last_hour][:3] == [0, 5, 0]  # the first one has passed
    clock.advance(120)
    assert not client.GetQueue(name="q").last_hour


# ---- health ----

@pytest.mark.parametrize("service", ["", "millrace.v1.JobService"])
def test_health_can_be_watched_per_service(server, service):
    with grpc.insecure_channel(server.target) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request_serializer=api.HealthCheckRequest.SerializeToString,
                                     response_deserializer=api.HealthCheckResponse.FromString)
        answers = watch(api.HealthCheckRequest(service=service), timeout=60)
        names = api.HealthCheckResponse.ServingStatus
        assert names.Name(next(answers).status) == "SERVING"
        server.process.terminate()
        assert names.Name(next(answers).status) == "NOT_SERVING"


def test_health_of_a_service_that_is_not_known(shared):
    with grpc.insecure_channel(shared.target) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request_serializer=api.HealthCheckRequest.SerializeToString,
                                     response_deserializer=api.HealthCheckResponse.FromString)
        answers = watch(api.HealthCheckRequest(service="no.such.Service"), timeout=60)
        assert next(answers).status == api.HealthCheckResponse.SERVICE_UNKNOWN
        answers.cancel()


def test_every_line_has_its_time(json_server):
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in events(json_server))
