# SPDX-License-Identifier: Apache-2.0
"""Who may call what: tokens, roles, queues of a token, what the log says of it, and that no secret leaks."""
import hashlib
import pathlib
import re
import signal
import subprocess

import grpc
import pytest
from harness import api
from harness.api import Client, Failure, fails
from harness.security import Tokens
from harness.server import BIN
from harness.tools import millrace
from harness.wait import wait_until

ROLES = ("viewer", "producer", "worker", "scaler", "admin")

# What each role may call, written down a second time: the service has its own table.
VIEWER = {"GetJob", "WaitJob", "WatchJobs", "ListJobs", "GetSchedule", "ListSchedules", "PreviewSchedule", "GetChain", "WaitChain",
          "ListChains", "GetBatch", "WaitBatch", "ListBatches", "ListQueues", "GetQueue", "ListWorkers", "GetServerInfo"}
PRODUCER = {"CreateJob", "CreateJobs", "CreateJobsStream", "CancelJob", "RetryJob", "UpdateJob", "DeleteJob", "CancelJobs", "RetryJobs",
            "CreateSchedule", "UpdateSchedule", "DeleteSchedule", "DeclareSchedules", "PauseSchedule", "ResumeSchedule", "RunSchedule",
            "CreateChain", "CancelChain", "CreateBatch", "AddBatchItems", "SealBatch", "CancelBatch"}
WORKER = {"Register", "Attach", "Deregister", "QuietWorker"}  # workers quiet themselves when they stop
ADMIN = {"UpdateQueue", "PauseQueue", "ResumeQueue", "PurgeQueue", "DeleteQueue", "Checkpoint", "StreamBackup", "SetLogLevel"}
SCALER = {"IsActive", "StreamIsActive", "GetMetricSpec", "GetMetrics"}
MAY = {"viewer": VIEWER, "producer": VIEWER | PRODUCER, "worker": WORKER, "scaler": SCALER,
       "admin": VIEWER | PRODUCER | WORKER | SCALER | ADMIN}


@pytest.fixture
def tokens(tmp_path):
    """An empty token file."""
    return Tokens(tmp_path)


@pytest.fixture
def guarded(make_server, tokens):
    """A server with a grant of each role, by which it is named. guarded.as_("viewer") calls with its token."""
    secrets = {role: tokens.create(role, role) for role in ROLES}
    server = make_server({"--token-file": tokens.file})
    server.tokens = tokens
    server.secrets = secrets
    server.as_ = lambda name: Client(server.target, token=server.secrets[name])
    return server


def reload(server, event="reloaded"):
    """SIGHUP, and waits until the log tells what came of it."""
    before = server.log().count(f" {event} ")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log().count(f" {event} ") > before, f"{event} after SIGHUP")


def outcome_of(client, name):
    """Code and reason of a call with an empty request: what is behind the door does not matter here."""
    _, _, _, client_streams, server_streams = api.METHODS[name]
    try:
        call = getattr(client, name)
        if client_streams:
            list(call(iter(()), timeout_s=30))
        elif server_streams:  # an allowed one goes on without an end
            list(call(timeout_s=1))
        else:
            call(timeout_s=30)
    except Failure as failure:
        return failure
    return None


def test_every_method_is_in_the_table_of_this_test():
    assert VIEWER | PRODUCER | WORKER | SCALER | ADMIN == set(api.METHODS)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_call_its_methods_and_no_other(guarded, role):
    client = guarded.as_(role)
    for name in api.METHODS:
        failure = outcome_of(client, name)
        if name in MAY[role]:
            assert failure is None or failure.code not in ("PERMISSION_DENIED", "UNAUTHENTICATED"), f"{role} {name}: {failure}"
        else:
            assert failure is not None and failure.code == "PERMISSION_DENIED", f"{role} {name}: {failure}"
            assert failure.reason == "ROLE_MISSING" and role in failure.message and name in failure.message
            assert "needs the role" in failure.message


def test_without_a_token_every_method_says_what_to_do(guarded):
    client = Client(guarded.target)
    for name in api.METHODS:
        failure = outcome_of(client, name)
        assert failure is not None and failure.code == "UNAUTHENTICATED", f"{name}: {failure}"
        assert failure.reason == "TOKEN_MISSING" and "MILLRACE_TOKEN" in failure.message


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Bearer", "Basic YTpi", "", "Bearer mrt_" + "A" * 5000])
def test_a_wrong_token_is_refused_and_not_repeated(guarded, header):
    client = Client(guarded.target, metadata=[("authorization", header)])
    with fails("UNAUTHENTICATED") as seen:
        client.GetServerInfo()
    assert "A" * 20 not in seen.error.message and "YTpi" not in seen.error.message
    assert "YTpi" not in guarded.log() and "A" * 20 not in guarded.log()


def test_health_needs_no_token_reflection_any_and_an_unknown_method_is_unknown(guarded):
    assert Client(guarded.target).health() == "SERVING"
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

    def reflect(client):
        stub = client._channel.stream_stream(path)
        return list(stub(iter([b"\x3a\x00"]), metadata=client._metadata, timeout=30))  # list_services

    with pytest.raises(Exception, match="UNAUTHENTICATED"):
        reflect(Client(guarded.target))
    for role in ROLES:
        assert b"millrace.v1.JobService" in reflect(guarded.as_(role))[0]
    with fails("UNIMPLEMENTED"):
        Client(guarded.target).raw("/millrace.v1.JobService/Steal", b"")


def test_a_grant_can_have_several_roles(guarded):
    guarded.secrets["app"] = guarded.tokens.create("app", "producer", "worker")
    reload(guarded)
    client = guarded.as_("app")
    client.create(queue="q")
    client.Register(queues=[api.WorkerQueue(name="q")], tasks=[api.WorkerTask(name="*")], concurrency=1)
    with fails("PERMISSION_DENIED", reason="ROLE_MISSING"):
        client.PurgeQueue(name="q")


# ---- queues of a token ----


@pytest.fixture
def limited(guarded):
    """A client for queues a and b-* only, with all roles, beside an unlimited one."""
    secret = guarded.tokens.create("limited", "admin", queues=["a", "b-*"])
    reload(guarded)
    return Client(guarded.target, token=secret)


def spec(queue, task="work", **more):
    return api.JobSpec(task=task, queue=queue, **more)


def refused():
    return fails("PERMISSION_DENIED", reason="QUEUE_NOT_GRANTED")


def schedule(name, queue):
    return api.ScheduleSpec(name=name, job=spec(queue), timing=api.ScheduleTiming(interval=api.seconds(3600)))


def test_a_limited_token_works_within_its_queues(guarded, limited):
    for queue in ("a", "b-1", "b-"):
        job = limited.create(queue=queue)
        assert limited.job(job.id).queue == queue
        assert [found.id for found in limited.list(queues=[queue])] == [job.id]
        limited.CancelJob(id=job.id)
        limited.PurgeQueue(name=queue)
    chain = limited.CreateChain(steps=[spec("a"), spec("b-2")]).chain
    assert [found.id for found in limited.ListChains().chains] == [chain.id]
    assert limited.GetChain(id=chain.id).chain.id == chain.id
    limited.CreateSchedule(schedule=schedule("mine", "a"))
    limited.DeclareSchedules(owner="us", schedules=[schedule("ours", "b-1")], prune=True)
    assert {found.spec.name for found in limited.ListSchedules().schedules} == {"mine", "ours"}
    guarded.as_("admin").create(queue="other")
    assert "other" not in {queue.name for queue in limited.ListQueues().queues}


# For each method a request that touches the queue "other", or (WIDE) all of them; a method that is missing here fails the test.
WIDE = {"CreateBatch", "AddBatchItems", "SealBatch", "GetBatch", "WaitBatch", "ListBatches", "CancelBatch", "Checkpoint", "StreamBackup",
        "SetLogLevel"}
UNTOUCHED = {"GetMetricSpec", "GetServerInfo", "PreviewSchedule", "Deregister", "Attach", "ListQueues", "ListChains", "ListSchedules"}
PER_JOB = {"CreateJobs", "CreateJobsStream"}  # answered job by job


def foreign_requests(admin):
    job = admin.create(queue="other")
    chain = admin.CreateChain(steps=[spec("a"), spec("other")]).chain
    admin.CreateSchedule(schedule=schedule("theirs", "other"))
    admin.DeclareSchedules(owner="them", schedules=[schedule("declared", "other")])
    worker = admin.Register(queues=[api.WorkerQueue(name="a"), api.WorkerQueue(name="other")], tasks=[api.WorkerTask(name="*")],
                            concurrency=1)
    by_id = {"id": job.id}
    others = api.JobFilter(queues=["a", "other"])
    trigger = {"scalerMetadata": {"queues": "a,other"}}
    return {
        "CreateJob": [{"job": spec("other")}, {"job": spec("")}, {"job": spec("A")}, {"job": spec("aa")}],
        "GetJob": [by_id], "WaitJob": [by_id], "CancelJob": [by_id], "RetryJob": [by_id], "DeleteJob": [by_id],
        "UpdateJob": [{**by_id, "priority": api.JobPriority.HIGH}],
        "WatchJobs": [{"filter": others}, {}, {"filter": api.JobFilter(ids=[job.id])}],
        "ListJobs": [{"filter": others}, {}, {"filter": api.JobFilter(chain_id=chain.id)}],
        "CancelJobs": [{"filter": others}, {"filter": api.JobFilter(ids=[job.id])}],
        "RetryJobs": [{"filter": others}, {"filter": api.JobFilter(tasks=["work"])}],
        "CreateSchedule": [{"schedule": schedule("new", "other")}],
        "UpdateSchedule": [{"schedule": schedule("theirs", "a")}],
        "GetSchedule": [{"name": "theirs"}], "DeleteSchedule": [{"name": "theirs"}], "PauseSchedule": [{"name": "theirs"}],
        "ResumeSchedule": [{"name": "theirs"}], "RunSchedule": [{"name": "theirs"}],
        "DeclareSchedules": [{"owner": "x", "schedules": [schedule("new", "other")]}, {"owner": "x", "schedules": [schedule("theirs", "a")]},
                             {"owner": "them", "schedules": [schedule("mine2", "a")], "prune": True}],
        "CreateChain": [{"steps": [spec("a"), spec("other")]}, {"steps": [spec("a")], "on_failure": spec("other")}],
        "GetChain": [{"id": chain.id}], "WaitChain": [{"id": chain.id}], "CancelChain": [{"id": chain.id}],
        "GetQueue": [{"name": "other"}], "UpdateQueue": [{"name": "other"}], "PauseQueue": [{"name": "other"}],
        "ResumeQueue": [{"name": "other"}], "PurgeQueue": [{"name": "other"}], "DeleteQueue": [{"name": "other"}],
        "Register": [{"queues": [api.WorkerQueue(name="a"), api.WorkerQueue(name="other")], "tasks": [api.WorkerTask(name="*")],
                      "concurrency": 1}],
        "IsActive": [trigger], "StreamIsActive": [trigger],
        "GetMetrics": [{"scaledObjectRef": trigger, "metricName": "backlog"}],
        "ListWorkers": [{}, {"queue": "other"}],
        "QuietWorker": [{"session_id": worker.session_id}],
    }


def test_a_limited_token_reaches_no_other_queue_by_any_method(guarded, limited):
    admin = guarded.as_("admin")
    requests = foreign_requests(admin)
    assert set(requests) | WIDE | UNTOUCHED | PER_JOB == set(api.METHODS)
    before = admin.counts("other"), len(admin.ListSchedules().schedules)
    for name, fields in requests.items():
        for request in fields:
            with refused():
                if api.METHODS[name][4]:
                    list(getattr(limited, name)(**request))
                else:
                    getattr(limited, name)(**request)
    for name in WIDE - {"AddBatchItems"}:
        with refused():
            answer = getattr(limited, name)()
            list(answer if api.METHODS[name][4] else ())
    with refused():
        list(limited.AddBatchItems(iter([api.AddBatchItemsRequest()])))
    assert [found.spec.name for found in limited.ListSchedules().schedules] == []
    assert list(limited.ListChains().chains) == []
    assert (admin.counts("other"), len(admin.ListSchedules().schedules)) == before


def test_jobs_of_one_call_are_refused_one_by_one(guarded, limited):
    """What one program creates may share a call with what another one does: a queue that is not granted is no other job's fault."""
    jobs = [spec("other"), spec("a"), spec(""), spec("b-1"), spec("other", task="not valid")]
    answers = [limited.CreateJobs(jobs=jobs), *limited.CreateJobsStream(iter([api.CreateJobsStreamRequest(jobs=jobs)]))]
    for answer in answers:
        refused_ones = [outcome.HasField("error") for outcome in answer.outcomes]
        assert refused_ones == [True, False, True, False, True]
        errors = [outcome.error for outcome in answer.outcomes if outcome.HasField("error")]
        assert {error.code for error in errors} == {grpc.StatusCode.PERMISSION_DENIED.value[0]}
        assert [re.search("'(.*)'", error.message)[1] for error in errors] == ["other", "default", "other"]
        assert not any(violation for error in errors for violation in api.Failure.of_status(error).fields)
    queues = {queue.name for queue in guarded.as_("admin").ListQueues().queues}
    assert queues == {"a", "b-1"}


def queue_fields(message, seen=()):
    """Every string field of a request tree that is called queue or queues, as Message.field."""
    for field in message.DESCRIPTOR.fields if hasattr(message, "DESCRIPTOR") else message.fields:
        if field.type == field.TYPE_MESSAGE and field.message_type.full_name not in seen:
            yield from queue_fields(field.message_type, (*seen, field.message_type.full_name))
        elif field.type == field.TYPE_STRING and field.name in ("queue", "queues"):
            yield f"{field.containing_type.name}.{field.name}"


def test_no_request_has_a_queue_that_the_service_does_not_look_at():
    found = {name for _, request, _, _, _ in api.METHODS.values() for name in queue_fields(request)}
    assert found == {"JobSpec.queue", "JobFilter.queues", "ListWorkersRequest.queue"}  # and the names in QueueService, WorkerQueue.name


# ---- reload ----


def test_a_token_can_be_added_and_withdrawn_while_the_server_runs(guarded):
    late = guarded.tokens.create("late", "producer")
    client = Client(guarded.target, token=late)
    with fails("UNAUTHENTICATED"):
        client.create()
    reload(guarded)
    job = client.create()
    watch = client.WatchJobs(filter=api.JobFilter(ids=[job.id]))
    assert watch.next().job.id == job.id
    text = guarded.tokens.file.read_text(encoding="utf-8")
    guarded.tokens.file.write_text(text.replace("[late]", "[later]"), encoding="utf-8")
    reload(guarded)
    with fails("UNAUTHENTICATED", text="withdrawn"):  # what was under way ends too
        list(watch)
    assert client.job(job.id).id == job.id
    guarded.tokens.file.write_text(text[:text.index("[late]")], encoding="utf-8")
    reload(guarded)
    with fails("UNAUTHENTICATED", reason="TOKEN_UNKNOWN"):
        client.job(job.id)
    guarded.as_("viewer").job(job.id)


@pytest.mark.parametrize("text,says", [
    ("[x]\nroles=boss\ntoken-sha256=" + "0" * 64, "viewer, producer"),
    ("[x]\nroles=admin", "neither token-sha256 nor certificate"),
    ("[x]\nroles=admin\ntoken-sha256=123", "64 hexadecimal digits"),
    ("[x]\nroles=admin\ntoken-sha256=" + "0" * 64 + "\nqueue=a", "none of roles, queues"),
    ("[x]\nroles=admin\ntoken-sha256=" + "0" * 64 + "\n[x]\nroles=viewer\n", "comes twice"),
    ("[x]\nroles=admin\ntoken-sha256=" + "0" * 64 + "\n[y]\nroles=viewer\ntoken-sha256=" + "0" * 64, "another name"),
    ("mrt_verysecret", "no key file"),
])
def test_a_mistake_in_the_file_changes_nothing_and_is_told(guarded, make_server, text, says):
    guarded.tokens.file.write_text(text, encoding="utf-8")
    reload(guarded, "reload_failed")
    assert says in guarded.log() and "verysecret" not in guarded.log()
    guarded.as_("admin").ListQueues()
    broken = make_server({"--token-file": guarded.tokens.file}, start=False).spawn()
    assert broken.process.wait(60) == 1
    assert says in broken.log() and "verysecret" not in broken.log()
    broken.process = None


# ---- where it listens ----


def start_refused(*flags):
    """What millraced says when it refuses its settings."""
    completed = subprocess.run([str(BIN / "millraced"), "--data-dir", "/nonexistent/x", *flags], capture_output=True, text=True, timeout=60,
                               check=False)
    assert completed.returncode == 2, completed
    return completed.stderr


@pytest.mark.parametrize("flag", ["--listen", "--worker-listen"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_another_address_is_refused_without_tokens_and_encryption(tokens, flag, host):
    tokens.create("x", "admin")
    for more in ((), ("--token-file", str(tokens.file))):
        text = start_refused(flag, f"{host}:0", *more)
        assert flag in text and "--insecure" in text and "--tls-cert" in text


# ---- audit ----


def audit_lines(server):
    return [line for line in server.log().splitlines() if " audit " in line]


def test_each_administrative_action_is_logged_with_who_what_and_result(guarded):
    admin = guarded.as_("admin")
    admin.PauseQueue(name="emails")
    with fails("FAILED_PRECONDITION"):
        admin.Checkpoint(name="x")
    with fails("PERMISSION_DENIED"):
        guarded.as_("producer").PurgeQueue(name="emails")
    pause, checkpoint = audit_lines(guarded)
    assert "who=admin" in pause and "method=QueueService/PauseQueue" in pause and "target=emails" in pause and "result=OK" in pause
    assert re.search(r"from=ipv4:127\.0\.0\.1:\d+", pause)
    assert "target=x" in checkpoint and "result=FAILED_PRECONDITION" in checkpoint and "--checkpoint-dir" in checkpoint
    refusal = next(line for line in guarded.log().splitlines() if " call_refused " in line)
    assert "who=producer" in refusal and "method=QueueService/PurgeQueue" in refusal and "result=PERMISSION_DENIED" in refusal


def test_without_tokens_administrative_actions_are_logged_too(server):
    server.client.PauseQueue(name="emails")
    line, = audit_lines(server)
    assert "who=-" in line and "target=emails" in line


def test_a_flood_of_refusals_is_no_flood_of_log_lines(guarded):
    client = Client(guarded.target, token="wrong")
    for _ in range(500):
        with fails("UNAUTHENTICATED"):
            client.GetServerInfo()
    lines = guarded.log_path.read_text(encoding="utf-8").count(" call_refused ")
    assert 1 <= lines < 300


# ---- the tool ----


def test_the_file_has_a_hash_of_the_token_and_is_the_owners(tokens):
    secret = tokens.create("shop", "producer", queues=["shop-*", "mail"])
    assert re.fullmatch(r"mrt_[A-Za-z0-9_-]{43}", secret)
    text = tokens.file.read_text(encoding="utf-8")
    assert secret not in text and hashlib.sha256(secret.encode()).hexdigest() in text
    assert "queues=shop-*;mail" in text
    assert tokens.file.stat().st_mode & 0o777 == 0o600
    assert millrace(None, "token", "create", "--name", "shop", "--role", "admin", "--file", tokens.file, code=1).err.count("already")
    assert millrace(None, "token", "create", "--name", "a]b", "--role", "admin", code=2).err
    assert "none of viewer" in millrace(None, "token", "create", "--name", "ab", "--role", "root", code=2).err
    printed = millrace(None, "token", "create", "--name", "x", "--role", "admin").out
    assert "[x]" in printed and "mrt_" in printed and "SIGHUP" in printed


def test_the_tool_takes_a_token_from_a_variable_or_a_file_never_from_a_flag(guarded, tmp_path):
    file = tmp_path / "viewer.token"
    file.write_text(guarded.secrets["viewer"] + "\n", encoding="utf-8")
    millrace(guarded, "queue", "list", MILLRACE_TOKEN=guarded.secrets["viewer"])
    millrace(guarded, "queue", "list", MILLRACE_TOKEN_FILE=file)
    millrace(guarded, "queue", "list", "--token-file", file, MILLRACE_TOKEN="wrong")
    assert "MILLRACE_TOKEN" in millrace(guarded, "queue", "list", code=1).err
    assert "ROLE_MISSING" in millrace(guarded, "queue", "pause", "q", "--token-file", file, code=1).err
    millrace(guarded, "queue", "list", "--token", guarded.secrets["viewer"], code=2)
    assert "no/such" in millrace(guarded, "queue", "list", "--token-file", "no/such", code=2).err


def test_a_worker_works_with_a_token(guarded, make_process_worker, tmp_path):
    with_token = {"MILLRACE_TOKEN": guarded.secrets["worker"]}
    make_process_worker(guarded, {"greet": "echo '\"hello\"'"}, environment_more=with_token)
    make_process_worker(guarded, {"greet": "echo '\"hello\"'"}, "--transport=grpc", queues=("attached",), environment_more=with_token)
    producer = guarded.as_("producer")
    for queue in ("default", "attached"):
        assert producer.wait(producer.create("greet", queue=queue).id).result.json == '"hello"'
    worker = make_process_worker(guarded, {"wait": f"touch {tmp_path}/started; sleep 1"}, queues=("stopped",), environment_more=with_token)
    job = producer.create("wait", queue="stopped")
    wait_until((tmp_path / "started").exists, "the program runs")
    worker.signal(signal.SIGTERM)  # finishes what it has
    assert producer.wait(job.id).state == api.JobState.SUCCEEDED
    assert worker.process.wait(60) == 0
    assert " call_refused " not in guarded.log()
