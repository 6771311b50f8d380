# SPDX-License-Identifier: Apache-2.0
"""Unary calls: answers, errors with details, limits, and callers who leave."""
import threading

import grpc
import pytest
from conftest import DEADLINE_S, Server, message, wait_until


def fails(call, *arguments, **options):
    """The error of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value


def details(error):
    """The google.rpc.Status in the trailer, and its details by type."""
    trailer = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = message("google.rpc.Status").FromString(trailer)
    unpacked = {}
    for entry in status.details:
        name = entry.type_url.split("/")[1]
        unpacked[name.split(".")[-1]] = message(name).FromString(entry.value)
    return status, unpacked


def test_answer(server):
    assert server.create(id="a", task="t").job.id == "a"


def test_error_carries_details(server):
    error = fails(server.create, id="the-id", task="refuse")
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS
    assert error.details() == "there is one, grüße %\n"
    status, parts = details(error)
    assert (status.code, status.message) == (6, "there is one, grüße %\n")
    assert parts["ErrorInfo"].reason == "JOB_EXISTS"
    assert parts["ErrorInfo"].domain == "millrace"
    assert dict(parts["ErrorInfo"].metadata) == {"subject": "the-id"}
    assert [v.field for v in parts["BadRequest"].field_violations] == ["job.id"]
    assert (parts["RetryInfo"].retry_delay.seconds, parts["RetryInfo"].retry_delay.nanos) == (1, 500_000_000)


def test_unknown_method(server):
    for path in ("/millrace.v1.JobService/Nothing", "/nobody.v9.Service/Method", "/", "/x"):
        error = fails(server.raw(path), b"", timeout=DEADLINE_S)
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert f"'{path}'" in error.details()


def test_half_close_without_a_message_is_an_empty_message(server):
    call = server.channel.stream_unary("/millrace.v1.JobService/CreateJob")
    error = fails(call, iter(()), timeout=DEADLINE_S)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [v.field for v in details(error)[1]["BadRequest"].field_violations] == ["job"]


def test_undecodable(server):
    for garbage in (b"\xff", b"\x0a\x7f", b"\x0a\x02\xff\xff", bytes(range(256))):
        error = fails(server.raw("/millrace.v1.JobService/CreateJob"), garbage, timeout=DEADLINE_S)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "CreateJobRequest" in error.details()
    assert server.create(id="a", task="t").job.id == "a"


def test_nul_inside_a_string(server):
    error = fails(server.create, id="a", task="evil\0good")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [v.field for v in details(error)[1]["BadRequest"].field_violations] == ["job.task"]
    error = fails(server.create, id="a", labels={"key": "a\0b"})
    assert [v.field for v in details(error)[1]["BadRequest"].field_violations] == ["job.labels[0].value"]
    jobs = [{"task": "t"}, {"task": "t"}, {"task": "t", "unique_key": {"key": "a\0b"}}, {"task": "c\0d"}]
    error = fails(server.call, "CreateJobs", message("CreateJobsRequest")(jobs=jobs))
    assert [v.field for v in details(error)[1]["BadRequest"].field_violations] == ["jobs[2].unique_key.key"]
    assert server.create(id="a", task="t", payload={"data": b"a\0b"}).job.id == "a"


def test_unpacking_is_bounded(server):
    empty_jobs = b"\x0a\x00" * (2 * 1024 * 1024 - 100)
    error = fails(server.raw("/millrace.v1.JobService/CreateJobs"), empty_jobs, timeout=DEADLINE_S)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "memory" in error.details()
    assert server.create(id="a", task="t").job.id == "a"


def test_largest_message_passes_and_a_larger_one_does_not(server):
    request = message("CreateJobRequest")(job={"id": "a", "task": "t", "payload": {"data": b"x" * (4 * 1024 * 1024 - 100)}})
    assert server.call("CreateJob", request).job.id == "a"
    request.job.payload.data += b"x" * 200
    error = fails(server.call, "CreateJob", request)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.create(id="a", task="t").job.id == "a"


def test_large_answer(server):
    channel = server.connect(("grpc.max_receive_message_length", -1))
    answer = server.call("GetJob", message("GetJobRequest")(id=str(3 * 1024 * 1024)), channel)
    assert len(answer.job.task) == 3 * 1024 * 1024


def get_job(length):
    """The request that is answered by so many bytes."""
    return message("GetJobRequest")(id=str(length))


def unread(server, count):
    """Calls whose answers of a MiB are not read before somebody iterates, nor by the client's own window."""
    channel = server.connect(("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    stub = channel.unary_stream("/millrace.v1.JobService/GetJob")
    return [stub(get_job(1 << 20).SerializeToString()) for _ in range(count)]


def test_answers_that_nobody_reads_are_limited(server):
    calls = unread(server, 40)
    wait_until(lambda: sum(not call.is_active() for call in calls) >= 25, "all beyond 16 MiB to be refused")
    kept = [call for call in calls if call.is_active()]
    assert len(kept) == 15
    assert {call.code() for call in calls if call not in kept} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    error = fails(server.call, "GetJob", get_job(1 << 20))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "not read" in error.details() and "RetryInfo" in details(error)[1]
    assert len(server.call("GetJob", get_job(1 << 10)).job.task) == 1 << 10
    long_id = "x" * (1 << 20)  # its answer is no bigger than what asks for it
    assert server.create(id=long_id).job.id == long_id
    assert all(len(next(call)) > 1 << 20 for call in kept)
    assert len(server.call("GetJob", get_job(1 << 20)).job.task) == 1 << 20


def is_answered(server, length):
    """By a big answer, at the moment."""
    try:
        return len(server.call("GetJob", get_job(length)).job.task) == length
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return False


def outcome(call):
    """Of a call that is read at last: what its error says."""
    try:
        list(call)
        return ""
    except grpc.RpcError as error:
        return error.details()


def test_who_does_not_read_an_answer_loses_the_call():
    server = Server(answer_wait_ms=4000)
    calls = unread(server, 40)
    wait_until(lambda: not all(call.is_active() for call in calls), "one that finds no room")
    wait_until(lambda: is_answered(server, 1 << 20), "room, though nobody has read")
    assert "nobody has read the answer in time" in {outcome(call) for call in calls}
    server.close()


def test_gzip(server):
    request = message("CreateJobRequest")(job={"id": "a", "task": "t", "payload": {"data": b"x" * 100_000}})
    assert server.call("CreateJob", request, compression=grpc.Compression.Gzip).job.id == "a"
    assert server.call("CreateJob", request, compression=grpc.Compression.Deflate).job.id == "a"


def test_gzip_can_not_pass_the_limit(server):
    request = message("CreateJobRequest")(job={"payload": {"data": bytes(200 * 1024 * 1024)}})
    error = fails(server.call, "CreateJob", request, compression=grpc.Compression.Gzip)
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
    peak = next(int(line.split()[1]) for line in open(f"/proc/{server.process.pid}/status", encoding="ascii") if "VmHWM" in line)
    assert peak < 150 * 1024, "a small message grew without limit"


def test_metadata_flood(server):
    channel = server.connect()
    error = fails(server.call, "GetServerInfo", None, channel, "AdminService", metadata=[("x-flood", "x" * 100_000)])
    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert server.create(id="a", task="t").job.id == "a"


def test_deadline_and_cancel_end_a_wait(server):
    error = fails(server.call, "WaitJob", timeout=0.2)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.info().queues == 1, "the engine to hear of the deadline")
    call = server.unary("millrace.v1.JobService", "WaitJob", "WaitJobRequest", "WaitJobResponse").future(message("WaitJobRequest")())
    wait_until(lambda: server.info().jobs_waiting == 1, "the wait to begin")
    call.cancel()
    wait_until(lambda: server.info().queues == 2, "the engine to hear of the cancel")
    assert server.info().jobs_waiting == 0


def test_caller_leaves_before_the_answer(server):
    channel = server.connect()
    stub = server.unary("millrace.v1.JobService", "CreateJob", "CreateJobRequest", "CreateJobResponse", channel)
    calls = [stub.future(message("CreateJobRequest")(job={"id": str(i), "queue": "held"})) for i in range(50)]
    wait_until(lambda: server.info().jobs_running == 50, "all to be held")
    channel.close()
    wait_until(lambda: all(call.done() for call in calls), "the calls to be given up")
    server.create(id="a", queue="release")
    assert server.info().jobs_running == 0


def test_streams_per_connection_are_limited(server):
    channel = server.connect()
    stub = server.unary("millrace.v1.JobService", "CreateJob", "CreateJobRequest", "CreateJobResponse", channel)
    calls = [stub.future(message("CreateJobRequest")(job={"id": str(i), "queue": "held"})) for i in range(1100)]
    wait_until(lambda: server.info().jobs_running == 1000, "1,000 to be held")
    while not all(call.done() for call in calls):
        server.create(id="a", queue="release")
    assert [call.result().job.id for call in calls] == [str(i) for i in range(1100)]


def test_not_serving(server):
    server.set_serving(False)
    error = fails(server.create, id="a")
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert details(error)[1]["ErrorInfo"].reason == "NOT_SERVING"
    server.set_serving(True)
    assert server.create(id="a").job.id == "a"


def test_many_callers_at_once(server):
    def work():
        for i in range(200):
            assert server.create(id=str(i), task="t").job.id == str(i)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.info().jobs_running == 0


def test_graceful_stop_answers_what_is_under_way():
    server = Server()
    stub = server.unary("millrace.v1.JobService", "WaitJob", "WaitJobRequest", "WaitJobResponse")
    wait = stub.future(message("WaitJobRequest")())
    wait_until(lambda: server.info().jobs_waiting == 1, "the wait to begin")
    server.terminate()
    error = fails(wait.result, timeout=DEADLINE_S)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert details(error)[1]["ErrorInfo"].reason == "NOT_SERVING"
    server.close()
