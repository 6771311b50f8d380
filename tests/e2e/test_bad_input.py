# SPDX-License-Identifier: Apache-2.0
"""Bad input on every port: a clear error that names the field, nothing changed, everybody else served."""
import base64
import random
import socket
import time

import pytest

from harness import api
from harness.api import fails
from harness.wait import SOON_S, wait_until
from harness.worker import Worker, echo

YEAR_S = 366 * 86400
LONG = "n" * 129
BAD_NAMES = ["", "white space", "ä", "semi;colon", "line\nbreak", LONG]


@pytest.fixture
def unchanged(shared):
    """The store is as before, and others are served."""
    client = shared.client

    def picture():
        return [(q.name, q.counts) for q in client.ListQueues(page_size=1000).queues], client.ListSchedules().schedules, \
            client.ListBatches().batches, client.ListChains().chains

    before = picture()
    yield client
    assert picture() == before
    assert client.health() == "SERVING"


def payload(**fields):
    """A payload."""
    return api.Payload(**fields)


def seconds(value):
    """A duration."""
    return api.seconds(value)


JOB_CASES = [
    *((f"task {n!r:.12}", {"task": n}, "job.task") for n in BAD_NAMES),
    *((f"queue {n!r:.12}", {"queue": n}, "job.queue") for n in BAD_NAMES[1:]),
    ("id no uuid", {"id": "42"}, "job.id"),
    ("id too long", {"id": "0" * 37}, "job.id"),
    ("id braces", {"id": "{00000000-0000-4000-8000-000000000000}"}, "job.id"),
    ("priority between", {"priority": 3}, "job.priority"),
    ("priority beyond", {"priority": 11}, "job.priority"),
    ("priority negative", {"priority": -1}, "job.priority"),
    ("payload too big", {"payload": payload(data=b"x" * ((2 << 20) + 1))}, "job.payload.data"),
    ("json too big", {"payload": payload(json='"' + "x" * (2 << 20) + '"')}, "job.payload.json"),
    ("json cut", {"payload": payload(json='{"a": ')}, "job.payload.json"),
    ("json comment", {"payload": payload(json="/* no */ {}")}, "job.payload.json"),
    ("json trailing", {"payload": payload(json="{} {}")}, "job.payload.json"),
    ("json text", {"payload": payload(json="hello")}, "job.payload.json"),
    ("json nan", {"payload": payload(json="[NaN]")}, "job.payload.json"),
    ("json empty", {"payload": payload(json="")}, "job.payload.json"),
    ("json too deep", {"payload": payload(json="[" * 65 + "]" * 65)}, "job.payload.json"),
    ("json much too deep", {"payload": payload(json="[" * 500_000)}, "job.payload.json"),
    ("content type long", {"payload": payload(content_type="a/" + "b" * 127, data=b"1")}, "job.payload.content_type"),
    ("content type lines", {"payload": payload(content_type="text/plain\r\nX: y", data=b"1")}, "job.payload.content_type"),
    ("delay negative", {"delay": api.Duration(seconds=-1)}, "job.delay"),
    ("delay too long", {"delay": seconds(11 * YEAR_S)}, "job.delay"),
    ("delay not normal", {"delay": api.Duration(seconds=1, nanos=-5)}, "job.delay"),
    ("delay huge", {"delay": api.Duration(seconds=(1 << 63) - 1)}, "job.delay"),
    ("run_at beyond", {"run_at": api.Timestamp(seconds=1 << 60)}, "job.run_at"),
    ("run_at nanos", {"run_at": api.Timestamp(seconds=1, nanos=2_000_000_000)}, "job.run_at"),
    ("expires_in zero", {"expires_in": seconds(0)}, "job.expires_in"),
    ("expires_in too long", {"expires_in": seconds(11 * YEAR_S)}, "job.expires_in"),
    ("total_timeout zero", {"total_timeout": seconds(0)}, "job.total_timeout"),
    ("total_timeout too long", {"total_timeout": seconds(11 * YEAR_S)}, "job.total_timeout"),
    ("attempt_timeout too long", {"attempt_timeout": seconds(2 * YEAR_S)}, "job.attempt_timeout"),
    ("attempt_timeout negative", {"attempt_timeout": api.Duration(seconds=-1)}, "job.attempt_timeout"),
    ("retention too long", {"retention": seconds(2 * YEAR_S)}, "job.retention"),
    ("too many attempts", {"retry_policy": api.RetryPolicy(max_attempts=1001)}, "job.retry_policy.max_attempts"),
    ("backoff kind", {"retry_policy": api.RetryPolicy(kind=9)}, "job.retry_policy.kind"),
    ("initial zero", {"retry_policy": api.RetryPolicy(initial=seconds(0))}, "job.retry_policy.initial"),
    ("initial too long", {"retry_policy": api.RetryPolicy(initial=seconds(2 * YEAR_S))}, "job.retry_policy.initial"),
    ("multiplier", {"retry_policy": api.RetryPolicy(multiplier=101)}, "job.retry_policy.multiplier"),
    ("multiplier below", {"retry_policy": api.RetryPolicy(multiplier=0.5)}, "job.retry_policy.multiplier"),
    ("multiplier nan", {"retry_policy": api.RetryPolicy(multiplier=float("nan"))}, "job.retry_policy.multiplier"),
    ("max too long", {"retry_policy": api.RetryPolicy(max=seconds(2 * YEAR_S))}, "job.retry_policy.max"),
    ("jitter", {"retry_policy": api.RetryPolicy(jitter=api.DoubleValue(value=1.5))}, "job.retry_policy.jitter"),
    ("jitter nan", {"retry_policy": api.RetryPolicy(jitter=api.DoubleValue(value=float("nan")))}, "job.retry_policy.jitter.value"),
    ("list without delays", {"retry_policy": api.RetryPolicy(kind=4)}, "job.retry_policy.delays"),
    ("list too long", {"retry_policy": api.RetryPolicy(kind=4, delays=[seconds(1)] * 65)}, "job.retry_policy.delays"),
    ("delays without list", {"retry_policy": api.RetryPolicy(delays=[seconds(1)])}, "job.retry_policy.delays"),
    ("too many labels", {"labels": {f"k{n}": "v" for n in range(17)}}, "job.labels"),
    ("label key", {"labels": {"white space": "v"}}, 'job.labels["white space"]'),
    ("label key long", {"labels": {"k" * 65: "v"}}, f'job.labels["{"k" * 64}"]'),
    ("label key empty", {"labels": {"": "v"}}, 'job.labels[""]'),
    ("label value long", {"labels": {"k": "v" * 257}}, 'job.labels["k"]'),
    ("unique key empty", {"unique_key": api.UniqueKey()}, "job.unique_key.key"),
    ("unique key long", {"unique_key": api.UniqueKey(key="k" * 257)}, "job.unique_key.key"),
    ("unique scope", {"unique_key": api.UniqueKey(key="k", scope=4)}, "job.unique_key.scope"),
    ("unique rule", {"unique_key": api.UniqueKey(key="k", rule=3)}, "job.unique_key.rule"),
    ("period missing", {"unique_key": api.UniqueKey(key="k", scope=3)}, "job.unique_key.period"),
    ("period zero", {"unique_key": api.UniqueKey(key="k", scope=3, period=seconds(0))}, "job.unique_key.period"),
    ("period elsewhere", {"unique_key": api.UniqueKey(key="k", period=seconds(1))}, "job.unique_key.period"),
    ("concurrency key empty", {"concurrency_key": api.ConcurrencyKey()}, "job.concurrency_key.key"),
    ("concurrency key long", {"concurrency_key": api.ConcurrencyKey(key="k" * 257)}, "job.concurrency_key.key"),
    ("concurrency limit", {"concurrency_key": api.ConcurrencyKey(key="k", limit=10_001)}, "job.concurrency_key.limit"),
    ("traceparent", {"traceparent": "t" * 257}, "job.traceparent"),
    ("tracestate", {"tracestate": "t" * 513}, "job.tracestate"),
]


@pytest.mark.parametrize("fields, field", [c[1:] for c in JOB_CASES], ids=[c[0].replace(" ", "_") for c in JOB_CASES])
def test_job_fields(unchanged, fields, field):
    spec = api.JobSpec(**{"task": "work", "queue": "bad-input", **fields})
    with fails("INVALID_ARGUMENT", field=field):
        unchanged.CreateJob(job=spec)
    # The same among others: it alone is refused. Only small ones, so that the whole call is within its limit.
    if spec.ByteSize() < 1 << 20:
        outcomes = unchanged.CreateJobs(jobs=[spec]).outcomes
        assert field.replace("job.", "jobs[0].", 1) in api.Failure.of_status(outcomes[0].error).fields


TIMING = api.ScheduleTiming(interval=api.seconds(60))


def schedule(**fields):
    """A schedule that is right but for these."""
    return {"schedule": api.ScheduleSpec(**{"name": "s", "timing": TIMING, "job": api.JobSpec(task="t"), **fields})}


def timing(**fields):
    """A schedule with this timing."""
    return schedule(timing=api.ScheduleTiming(**fields))


def template(**fields):
    """A schedule with this job."""
    return schedule(job=api.JobSpec(**{"task": "t", **fields}))


STEP = api.JobSpec(task="t", queue="bad-input")
ANY_ID = "00000000-0000-4000-8000-000000000000"
CALL_CASES = [
    ("CreateJob", {}, "job"),
    ("CreateJobs", {}, "jobs"),
    ("CreateJobs", {"jobs": [STEP] * 1001}, "jobs"),
    *((m, {"id": bad}, "id") for m in ("GetJob", "WaitJob", "CancelJob", "RetryJob", "UpdateJob", "DeleteJob", "GetChain", "WaitChain",
                                       "CancelChain", "GetBatch", "WaitBatch", "SealBatch", "CancelBatch") for bad in ("", "x", "0" * 400)),
    ("GetJob", {"id": ANY_ID, "view": 7}, "view"),
    *((m, {"id": ANY_ID, "timeout": seconds(601)}, "timeout") for m in ("WaitJob", "WaitChain", "WaitBatch")),
    ("WaitJob", {"id": ANY_ID, "timeout": api.Duration(seconds=-1)}, "timeout"),
    ("CancelJob", {"id": ANY_ID, "reason": "r" * 257}, "reason"),
    ("UpdateJob", {"id": ANY_ID, "priority": 4}, "priority"),
    ("UpdateJob", {"id": ANY_ID, "retry_policy": api.RetryPolicy(max_attempts=5000)}, "retry_policy.max_attempts"),
    ("UpdateJob", {"id": ANY_ID, "labels": api.Labels(labels={" ": "v"})}, 'labels.labels[" "]'),
    *((m, {"page_size": 1001}, "page_size") for m in ("ListJobs", "ListChains", "ListBatches", "ListSchedules", "ListQueues", "ListWorkers")),
    *((m, {"page_token": bad}, "page_token") for m in ("ListJobs", "ListChains", "ListBatches", "ListSchedules", "ListQueues", "ListWorkers")
      for bad in ("no token!", "\x01", "A" * 1025)),
    ("ListJobs", {"filter": api.JobFilter(queues=["q"] * 17)}, "filter.queues"),
    ("ListJobs", {"filter": api.JobFilter(tasks=["q"] * 17)}, "filter.tasks"),
    ("ListJobs", {"filter": api.JobFilter(states=[1] * 10)}, "filter.states"),
    ("ListJobs", {"filter": api.JobFilter(priorities=[1] * 5)}, "filter.priorities"),
    ("ListJobs", {"filter": api.JobFilter(labels={f"k{n}": "v" for n in range(5)})}, "filter.labels"),
    ("ListJobs", {"filter": api.JobFilter(ids=[ANY_ID] * 1001)}, "filter.ids"),
    ("ListJobs", {"filter": api.JobFilter(batch_id="x")}, "filter.batch_id"),
    ("ListJobs", {"filter": api.JobFilter(chain_id="x")}, "filter.chain_id"),
    ("ListJobs", {"filter": api.JobFilter(schedule_name="x y")}, "filter.schedule_name"),
    ("ListJobs", {"filter": api.JobFilter(error_fingerprint="XYZ")}, "filter.error_fingerprint"),
    ("CreateChain", {}, "steps"),
    ("CreateChain", {"steps": [STEP] * 1001}, "steps"),
    ("CreateChain", {"id": "x", "steps": [STEP]}, "id"),
    ("CreateChain", {"steps": [STEP, api.JobSpec(task="t", run_at=api.timestamp(5e9))]}, "steps[1].run_at"),
    ("CreateChain", {"steps": [STEP, api.JobSpec()]}, "steps[1].task"),
    ("CreateChain", {"steps": [STEP], "on_failure": api.JobSpec(task="t", id=ANY_ID)}, "on_failure.id"),
    ("CreateBatch", {"description": "d" * 1025}, "description"),
    ("CreateBatch", {"items": [STEP] * 1001}, "items"),
    ("CreateBatch", {"items": [api.JobSpec()]}, "items[0].task"),
    ("CreateBatch", {"on_complete": api.JobSpec(task="t", unique_key=api.UniqueKey(key="k"))}, "on_complete.unique_key"),
    ("CreateBatch", {"on_success": api.JobSpec()}, "on_success.task"),
    ("CreateSchedule", {}, "schedule"),
    *(("CreateSchedule", schedule(name=n), "schedule.name") for n in BAD_NAMES),
    ("CreateSchedule", {"schedule": api.ScheduleSpec(name="s", job=api.JobSpec(task="t"))}, "schedule.timing"),
    ("CreateSchedule", {"schedule": api.ScheduleSpec(name="s", timing=TIMING)}, "schedule.job"),
    *(("CreateSchedule", timing(cron=c), "schedule.timing.cron") for c in (
        "", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 32 * *", "* * 0 * *", "* * * 13 *", "* * * 0 *", "* * * * 8",
        "*/0 * * * *", "5-1 * * * *", "a * * * *", "1,,2 * * * *", "@never", "*/ * * * *", "-1 * * * *", "1-2-3 * * * *",
        "99999999999999999999 * * * *", "* " * 200)),
    ("CreateSchedule", timing(cron="* * * * *", time_zone="Mars/Olympus"), "schedule.timing.time_zone"),
    ("CreateSchedule", timing(cron="* * * * *", time_zone="../../etc/passwd"), "schedule.timing.time_zone"),
    ("CreateSchedule", timing(cron="* * * * *", time_zone="/etc/localtime"), "schedule.timing.time_zone"),
    ("CreateSchedule", timing(cron="* * * * *", time_zone="posixrules" * 20), "schedule.timing.time_zone"),
    ("CreateSchedule", timing(interval=seconds(0.5)), "schedule.timing.interval"),
    ("CreateSchedule", timing(interval=seconds(2 * YEAR_S)), "schedule.timing.interval"),
    ("CreateSchedule", timing(cron="* * * * *", jitter=seconds(3601)), "schedule.timing.jitter"),
    ("CreateSchedule", timing(cron="* * * * *", start_at=api.timestamp(2e9), end_at=api.timestamp(1e9)), "schedule.timing.end_at"),
    ("CreateSchedule", template(id=ANY_ID), "schedule.job.id"),
    ("CreateSchedule", template(delay=seconds(1)), "schedule.job.delay"),
    ("CreateSchedule", template(run_at=api.timestamp(5e9)), "schedule.job.run_at"),
    ("CreateSchedule", template(unique_key=api.UniqueKey(key="k")), "schedule.job.unique_key"),
    ("CreateSchedule", template(task=""), "schedule.job.task"),
    ("CreateSchedule", schedule(overlap=9), "schedule.overlap"),
    ("CreateSchedule", schedule(description="d" * 1025), "schedule.description"),
    ("CreateSchedule", schedule(catch_up_window=api.Duration(seconds=-1)), "schedule.catch_up_window"),
    ("PreviewSchedule", {}, "timing"),
    ("PreviewSchedule", {"timing": TIMING, "count": 101}, "count"),
    ("DeclareSchedules", {"owner": ""}, "owner"),
    ("DeclareSchedules", {"owner": "o", "schedules": [api.ScheduleSpec(name="a", timing=TIMING, job=api.JobSpec(task="t"))] * 2},
     "schedules[1].name"),
    *((m, {"name": n}, "name") for m in ("GetQueue", "UpdateQueue", "PauseQueue", "ResumeQueue", "PurgeQueue", "DeleteQueue", "GetSchedule",
                                         "DeleteSchedule", "PauseSchedule", "ResumeSchedule", "RunSchedule") for n in ("", "a b", LONG)),
    ("RunSchedule", {"name": "s", "job_id": "x"}, "job_id"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(mode=9)}, "settings.mode"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(rate_per_second=api.DoubleValue(value=-1))}, "settings.rate_per_second"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(rate_per_second=api.DoubleValue(value=2e6))}, "settings.rate_per_second"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(rate_per_second=api.DoubleValue(value=float("nan")))},
     "settings.rate_per_second.value"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(rate_burst=api.UInt32Value(value=2_000_000))}, "settings.rate_burst"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(retention=seconds(2 * YEAR_S))}, "settings.retention"),
    ("UpdateQueue", {"name": "q", "settings": api.QueueSettings(retention_count=api.UInt32Value(value=10_000_001))},
     "settings.retention_count"),
    ("Checkpoint", {"name": "../escape"}, "name"),
    ("Checkpoint", {"name": ""}, "name"),
    ("QuietWorker", {"session_id": "x"}, "session_id"),
    ("Deregister", {"session_id": ANY_ID}, "session_token"),
]
REGISTER = {"queues": [api.WorkerQueue(name="q")], "tasks": [api.WorkerTask(name="*")], "concurrency": 1}
CALL_CASES += [("Register", {**REGISTER, **fields}, field) for fields, field in [
    ({"queues": []}, "queues"), ({"queues": [api.WorkerQueue(name=f"q{n}") for n in range(101)]}, "queues"),
    ({"queues": [api.WorkerQueue(name="a b")]}, "queues[0].name"), ({"queues": [api.WorkerQueue(name="q", weight=1001)]}, "queues[0].weight"),
    ({"queues": [api.WorkerQueue(name="q")] * 2}, "queues[1].name"),
    ({"tasks": []}, "tasks"), ({"tasks": [api.WorkerTask(name=f"t{n}") for n in range(1001)]}, "tasks"),
    ({"tasks": [api.WorkerTask(name="a b")]}, "tasks[0].name"),
    ({"tasks": [api.WorkerTask(name="t", retry_policy=api.RetryPolicy(max_attempts=5000))]}, "tasks[0].retry_policy.max_attempts"),
    ({"concurrency": 0}, "concurrency"), ({"concurrency": 10_001}, "concurrency"), ({"prefetch": 10_001}, "prefetch"),
    ({"hostname": "h" * 257}, "hostname"), ({"sdk": "s" * 129}, "sdk"), ({"labels": {"a b": "c"}}, 'labels["a b"]'),
    ({"resume_session_id": "x", "resume_session_token": "t"}, "resume_session_id"),
    ({"resume_session_id": ANY_ID}, "resume_session_token"),
]]


@pytest.mark.parametrize("method, fields, field", CALL_CASES, ids=[f"{m}-{f}-{n}" for n, (m, _, f) in enumerate(CALL_CASES)])
def test_calls(unchanged, method, fields, field):
    with fails("INVALID_ARGUMENT", field=field):
        getattr(unchanged, method)(**fields)


def test_a_page_token_belongs_to_its_filter(shared, queue):
    client = shared.client
    client.create_many([api.JobSpec(task="t", queue=queue)] * 3)
    token = client.ListJobs(filter=api.JobFilter(queues=[queue]), page_size=1).next_page_token
    assert token
    with fails("INVALID_ARGUMENT", field="page_token"):
        client.ListJobs(filter=api.JobFilter(queues=["another"]), page_size=1, page_token=token)


def test_the_longest_page_token_is_refused_or_taken(shared):
    token = base64.b64encode(b"q" * 415).decode()
    assert all(q.name > "q" for q in shared.client.ListQueues(page_token=token).queues)
    with fails("INVALID_ARGUMENT", field="page_token"):
        shared.client.ListQueues(page_token=base64.b64encode(b"q" * 416).decode())


NIL = "00000000-0000-0000-0000-000000000000"


def test_the_nil_id_is_no_id(unchanged):
    job = api.JobSpec(id=NIL, task="work")
    for method, field, request in (("CreateJob", "job.id", {"job": job}), ("CreateChain", "id", {"id": NIL, "steps": [api.JobSpec(task="a")]}),
                                   ("CreateChain", "steps[0].id", {"steps": [job]}), ("CreateBatch", "id", {"id": NIL}),
                                   ("CreateBatch", "items[0].id", {"items": [job]})):
        with fails("INVALID_ARGUMENT", field=field, text="nil"):
            getattr(unchanged, method)(**request)
    outcome = unchanged.CreateJobs(jobs=[job]).outcomes[0]
    assert api.Failure.of_status(outcome.error).fields.keys() == {"jobs[0].id"}


def test_what_is_wrong_is_told_in_whole_characters(unchanged):
    """A cut within one would spoil the answer for all other jobs of the call."""
    outcome = unchanged.CreateJobs(jobs=[api.JobSpec(id="i" * 63 + "é", task="work")]).outcomes[0]
    assert "i" * 63 in outcome.error.message
    label = api.JobSpec(task="work", labels={"l" * 63 + "é": "x"})
    failure = api.Failure.of_status(unchanged.CreateJobs(jobs=[label]).outcomes[0].error)
    assert any("l" * 63 in field for field in failure.fields)


def test_streams_name_the_field_too(unchanged):
    with fails("INVALID_ARGUMENT", field="jobs"):
        list(unchanged.CreateJobsStream(iter([api.CreateJobsStreamRequest()])))
    with fails("INVALID_ARGUMENT", field="jobs"):
        list(unchanged.CreateJobsStream(iter([api.CreateJobsStreamRequest(jobs=[STEP] * 1001)])))
    with fails("INVALID_ARGUMENT", field="batch_id"):
        list(unchanged.AddBatchItems(iter([api.AddBatchItemsRequest(chunk=1, items=[STEP])])))
    with fails("NOT_FOUND", text=ANY_ID):
        list(unchanged.AddBatchItems(iter([api.AddBatchItemsRequest(batch_id=ANY_ID, chunk=1, items=[STEP])])))
    assert list(unchanged.CreateJobsStream(iter([]))) == []
    answers = list(unchanged.CreateJobsStream(iter([api.CreateJobsStreamRequest(jobs=[api.JobSpec(task="a b")])])))
    assert "jobs[0].task" in api.Failure.of_status(answers[0].outcomes[0].error).fields


def test_errors_say_limit_and_value(shared):
    with fails("INVALID_ARGUMENT", field="job.labels") as seen:
        shared.client.create(labels={f"k{n}": "v" for n in range(17)})
    assert "16" in seen.error.message and "17" in seen.error.message
    with fails("INVALID_ARGUMENT", field="page_size") as seen:
        shared.client.ListJobs(page_size=5000)
    assert "1000" in seen.error.message.replace(",", "") and "5000" in seen.error.message.replace(",", "")


# ---- bytes that are no message ----

def field(number, data):
    """A length-delimited field."""
    length, out = len(data), bytes([number << 3 | 2])
    while length > 0x7F:
        out += bytes([(length & 0x7F) | 0x80])
        length >>= 7
    return out + bytes([length]) + data


CREATE = "/millrace.v1.JobService/CreateJob"


@pytest.mark.parametrize("text", [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"nul\0byte"],
                         ids=["ff", "latin1", "surrogate", "overlong", "nul"])
@pytest.mark.parametrize("number, path", [(2, "job.task"), (3, "job.queue"), (1, "job.id"), (17, "job.traceparent")])
def test_invalid_utf8(unchanged, text, number, path):
    spec = field(2, b"work") if number != 2 else b""
    tag = bytes([number << 3 | 2]) if number < 16 else bytes([(number << 3 & 0x7F) | 2 | 0x80, number >> 4])
    body = field(1, spec + tag + bytes([len(text)]) + text)
    with fails("INVALID_ARGUMENT", field=path):
        unchanged.raw(CREATE, body)


def test_invalid_utf8_in_json_and_labels(unchanged):
    with fails("INVALID_ARGUMENT", field="job.payload.json"):
        unchanged.raw(CREATE, field(1, field(2, b"work") + field(5, field(2, b'"\xff"'))))
    with fails("INVALID_ARGUMENT", field="job.labels[0].value"):
        unchanged.raw(CREATE, field(1, field(2, b"work") + field(13, field(1, b"k") + field(2, b"\xff"))))


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\x7f", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 1000, b"\x08" + b"\xff" * 20, b"\x00"],
                         ids=["ff", "cut", "length", "groups", "varint", "zero"])
def test_no_message_at_all(unchanged, data):
    for path in (p for p, *_ in api.METHODS.values()):
        if path.rsplit("/", 1)[1] in ("CreateJobsStream", "AddBatchItems", "Attach", "WatchJobs"):
            continue
        with fails("INVALID_ARGUMENT"):
            unchanged.raw(path, data)


def test_an_empty_message_never_kills(unchanged):
    for path in (p for n, (p, *_) in api.METHODS.items() if n not in ("CreateBatch", "CreateJobsStream", "AddBatchItems", "Attach", "WatchJobs",
                                                                              "StreamBackup")):
        try:
            unchanged.raw(path, b"")
        except api.Failure as failure:
            assert failure.code in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"), (path, failure)


def test_a_bomb_of_small_messages_is_refused(unchanged):
    # 4 MiB of empty jobs would become millions of objects.
    with fails("INVALID_ARGUMENT", text="memory"):
        unchanged.raw("/millrace.v1.JobService/CreateJobs", field(1, b"") * 1_900_000)


def test_oversize_messages(unchanged):
    big = api.JobSpec(task="t", queue="bad-input", payload=api.Payload(data=b"x" * (2 << 20)))
    with fails("RESOURCE_EXHAUSTED"):
        unchanged.CreateJobs(jobs=[big, big, big])
    with fails("RESOURCE_EXHAUSTED"):
        list(unchanged.CreateJobsStream(iter([api.CreateJobsStreamRequest(jobs=[big, big, big])])))


def test_the_largest_payload_passes(shared, make_worker, queue):
    worker = make_worker(shared, [queue])
    body = '"' + "x" * ((2 << 20) - 2) + '"'
    job = shared.client.create(queue=queue, payload=api.json_payload(body))
    assert worker.take().payload.json == body
    assert shared.client.job(job.id).payload.json == body


def test_oversize_metadata_is_refused(shared):
    client = api.Client(shared.target, metadata=[("x-much", "m" * 60_000)])
    with fails("RESOURCE_EXHAUSTED") as seen:
        client.create(queue="bad-input")
    assert seen.error
    client.close()
    assert shared.client.health() == "SERVING"


def test_unknown_methods_are_unimplemented(unchanged):
    for path in ("/millrace.v1.JobService/Explode", "/millrace.v2.JobService/CreateJob", "/nobody.Knows/This"):
        with fails("UNIMPLEMENTED"):
            unchanged.raw(path, b"")


def test_unknown_fields_are_ignored(shared, queue):
    body = field(1, field(2, b"work") + field(3, queue.encode()) + b"\xa0\x3f\x05") + b"\xf2\x3f\x03abc"
    assert api.CreateJobResponse.FromString(shared.client.raw(CREATE, body)).job.task == "work"


def test_a_wrong_session_token(shared, make_worker, queue):
    worker = make_worker(shared, [queue], transport="grpc", connect=False)
    hello = api.AttachRequest(hello=api.AttachHello(session_id=worker.session_id, session_token="wrong"))
    with fails("NOT_FOUND"):
        list(shared.client.Attach(iter([hello])))
    with fails("INVALID_ARGUMENT", field="hello"):
        list(shared.client.Attach(iter([api.AttachRequest(reports=api.Reports())])))
    with fails("NOT_FOUND"):
        shared.client.Deregister(session_id=worker.session_id, session_token="wrong")


# ---- bytes that are no protocol ----

def http_get(port, text, timeout_s=10):
    """Sends a request by hand and reads what comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(text)
        answer = b""
        try:
            while len(answer) < 100_000:
                part = connection.recv(65536)
                if not part:
                    break
                answer += part
                if b"\r\n\r\n" in answer and b"101 " not in answer[:20]:
                    break
        except (TimeoutError, ConnectionError):
            pass
        return answer


def test_random_bytes_on_every_port(server, make_worker):
    chance = random.Random(7)
    make_worker(server, handler=echo)
    for port in server.ports.values():
        for _ in range(60):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(chance.randbytes(chance.randrange(1, 3000)))
            except ConnectionError:
                pass
        for start in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00"):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(start + chance.randbytes(500))
            except ConnectionError:
                pass
    assert server.is_alive()
    assert server.client.wait(server.client.create().id).state == api.JobState.SUCCEEDED


@pytest.mark.parametrize("path", ["/", "/sessions", "/sessions/", "/sessions/x/jobs", "/sessions/../reports", "/reports/x",
                                  "/sessions/" + "9" * 5000 + "/jobs", "/%00"])
def test_unknown_paths_on_the_worker_port(shared, path):
    upgrade = (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: push.sp.nanomsg.org\r\n\r\n")
    answer = http_get(shared.ports["worker"], upgrade.encode())
    assert not answer.startswith(b"HTTP/1.1 101"), answer
    assert shared.client.health() == "SERVING"


def test_plain_http_on_the_worker_port_is_no_crash(shared):
    for head in (b"GET /reports HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /reports HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd",
                 b"GET /reports HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"G" * 100_000):
        answer = http_get(shared.ports["worker"], head, 3)
        assert b"101" not in answer[:20]
    assert shared.client.health() == "SERVING"


@pytest.mark.parametrize("port", ["grpc", "monitor"])
def test_a_half_sent_request_is_cut_after_five_seconds(shared, port):
    with socket.create_connection(("127.0.0.1", shared.ports[port]), timeout=SOON_S) as connection:
        connection.sendall(b"PRI * HT" if port == "grpc" else b"GET /livez HTTP/1.1\r\nHost")
        begin = time.monotonic()
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass
        assert time.monotonic() - begin > 2


@pytest.mark.parametrize("limit", ["connections", "descriptors"])
def test_half_sent_requests_up_to_the_limit(make_server, make_worker, limit):
    server = make_server({"--max-connections": "200", "--max-connections-per-address": "150"} if limit == "connections" else {}, start=False)
    server.descriptors_max = 300 if limit == "descriptors" else None
    server.start()
    client = server.client
    worker = make_worker(server, handler=echo)
    idle = []
    try:
        for count in range(400):
            port = server.ports[("grpc", "worker", "monitor")[count % 3]]
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=2)
                connection.sendall(b"GET /x HT")
                idle.append(connection)
            except OSError:
                pass
        # Those who were there are served; files can be opened.
        job = client.create()
        assert client.wait(job.id).state == api.JobState.SUCCEEDED
        assert not worker.is_closed()
        assert server.is_alive()
    finally:
        for connection in idle:
            connection.close()

    # And when they have gone, everybody is let in again, on all three ports.
    def all_in():
        fresh = api.Client(server.target)
        try:
            assert fresh.health(timeout_s=10) == "SERVING"
            with Worker(server, handler=echo):
                pass
            assert http_get(server.ports["monitor"], b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
            return True
        except (OSError, api.Failure) as error:
            raise AssertionError(error) from None
        finally:
            fresh.close()

    wait_until(all_in, "new connections on every port", 3 * SOON_S, 0.2)
    cpu_s = server.cpu_s()
    time.sleep(0.5)  # measures that nothing spins
    assert server.cpu_s() - cpu_s < 0.4


def test_bad_input_slows_nobody_down(server, make_worker):
    client = server.client
    make_worker(server, concurrency=50, handler=echo)
    bad = [api.JobSpec(task="not a name")] * 1000
    ids = client.create_many([api.JobSpec(task="work")] * 500)
    for _ in range(20):
        assert all(o.HasField("error") for o in client.CreateJobs(jobs=bad).outcomes)
    for job_id in ids:
        assert client.wait(job_id).state == api.JobState.SUCCEEDED
    assert client.counts("default") == {"succeeded": 500}


# ---- the command line of the server ----

@pytest.mark.parametrize("arguments, text", [
    (["--no-such-flag"], "--no-such-flag"),
    (["--session-timeout", "soon"], "--session-timeout"),
    (["--durability", "sometimes"], "--durability"),
    (["--listen", "nonsense"], "--listen"),
    (["--listen", "0.0.0.0:0"], "--insecure"),
    (["--worker-listen", "0.0.0.0:0"], "--insecure"),
    (["--heartbeat", "5s", "--session-timeout", "1s"], "--heartbeat"),
    (["--max-connections", "-3"], "--max-connections"),
    (["--dev", "--data-dir", "/nowhere"], "--dev"),
], ids=lambda value: "_".join(value) if isinstance(value, list) else "")
def test_wrong_flags_are_refused_with_a_sentence(make_server, arguments, text):
    import subprocess
    from harness.server import BIN
    done = subprocess.run([str(BIN / "millraced"), *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and text in done.stderr, done


def test_a_directory_that_is_in_use_or_can_not_be_written(server, tmp_path):
    import subprocess
    from harness.server import BIN
    listen = ["--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0"]
    for path in (server.data, "/proc/nowhere"):
        done = subprocess.run([str(BIN / "millraced"), "--data-dir", str(path), *listen], capture_output=True, text=True, timeout=20,
                              check=False)
        assert done.returncode not in (0, -6, -11) and str(path) in done.stderr, done
    assert server.client.health() == "SERVING"
