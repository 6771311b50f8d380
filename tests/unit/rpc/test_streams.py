# SPDX-License-Identifier: Apache-2.0
"""Streams: order, back-pressure, slow readers, Attach, health, reflection, and strangers on the port."""
import os
import queue
import socket
import time

import grpc
import pytest
from conftest import DEADLINE_S, SET, Server, message, wait_until
from test_unary import details, fails

CREATE_STREAM = ("/millrace.v1.JobService/CreateJobsStream", "CreateJobsStreamRequest", "CreateJobsStreamResponse")
ATTACH = ("/millrace.v1.WorkerService/Attach", "AttachRequest", "AttachResponse")
REFLECTION = "grpc.reflection.v1.ServerReflection"
HEALTH = "grpc.health.v1.HealthCheck"


class Sender:
    """The requests of a stream, one at a time; counts those that were fetched for sending."""

    def __init__(self):
        self.queue = queue.Queue()
        self.taken = 0

    def send(self, request):
        """The next one; None: no more."""
        self.queue.put(request)

    def __iter__(self):
        while (request := self.queue.get(timeout=DEADLINE_S)) is not None:
            self.taken += 1
            yield request


def jobs(name, **fields):
    """A CreateJobsStream message of one job."""
    return message("CreateJobsStreamRequest")(jobs=[{"id": name, **fields}])


def ids(answers):
    """Of the first job of each."""
    return [answer.outcomes[0].id for answer in answers]


def test_answers_come_in_order(server):
    sender = Sender()
    answers = server.stream(*CREATE_STREAM)(iter(sender), timeout=DEADLINE_S)
    for i in range(8):
        sender.send(jobs(str(i), queue="held"))
    sender.send(jobs("8"))
    wait_until(lambda: server.info().jobs_running == 8, "8 to be held")
    server.create(queue="release")  # answers the newest first
    sender.send(None)
    assert ids(answers) == [str(i) for i in range(9)]


def test_reading_stops_while_answers_are_due(server):
    sender = Sender()
    payload = {"data": b"x" * 100_000}
    answers = server.stream(*CREATE_STREAM)(iter(sender), timeout=DEADLINE_S)
    for i in range(200):
        sender.send(jobs(str(i), queue="held", payload=payload))
    sender.send(None)
    wait_until(lambda: server.info().jobs_running == 16, "16 to be held")
    taken = -1
    while taken != sender.taken:  # until the client is stuck as well
        taken = sender.taken
        for _ in range(20):
            assert server.info().jobs_running == 16
    assert taken < 200
    seen = []
    while len(seen) < 200:
        due = min(16, 200 - len(seen))
        wait_until(lambda due=due: server.info().jobs_running == due, "the next ones to be held")
        server.create(queue="release")
        seen += [next(answers) for _ in range(due)]
    assert ids(seen) == [str(i) for i in range(200)]


def test_a_message_refused_ends_the_stream_after_the_answers_before_it(server):
    answers = server.stream(*CREATE_STREAM)(iter([jobs("0"), jobs("1"), jobs("2", task="refuse"), jobs("3")]), timeout=DEADLINE_S)
    assert ids([next(answers), next(answers)]) == ["0", "1"]
    error = fails(next, answers)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)[1]["BadRequest"].field_violations[0].field == "jobs"


def test_garbage_in_a_stream(server):
    answers = server.channel.stream_stream(CREATE_STREAM[0])(iter([b"\xff"]), timeout=DEADLINE_S)
    assert fails(next, answers).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_empty_stream(server):
    assert not list(server.stream(*CREATE_STREAM)(iter(()), timeout=DEADLINE_S))


def test_caller_leaves_a_stream_with_work_under_way(server):
    sender = Sender()
    answers = server.stream(*CREATE_STREAM)(iter(sender), timeout=DEADLINE_S)
    for i in range(30):
        sender.send(jobs(str(i), queue="held"))
    wait_until(lambda: server.info().jobs_running == 16, "16 to be held")
    answers.cancel()
    sender.send(None)
    server.create(queue="release")
    assert server.info().jobs_running == 0


def test_many_messages(server):
    answers = server.stream(*CREATE_STREAM)((jobs(str(i)) for i in range(5000)), timeout=DEADLINE_S)
    assert ids(answers) == [str(i) for i in range(5000)]


def watch(server, task="", **options):
    """WatchJobs."""
    request = message("WatchJobsRequest")(filter={"tasks": [task] if task else []})
    stub = server.channel.unary_stream("/millrace.v1.JobService/WatchJobs",
                                       request_serializer=message("WatchJobsRequest").SerializeToString,
                                       response_deserializer=message("WatchJobsResponse").FromString)
    return stub(request, timeout=DEADLINE_S, **options)


def test_watch_until_the_caller_leaves(server):
    events = watch(server)
    assert [next(events).job.id for _ in range(3)] == ["0", "1", "2"]
    assert server.info().jobs_waiting == 1
    events.cancel()
    wait_until(lambda: server.info().queues == 1, "the engine to hear of it")


def test_slow_reader_of_a_watch_is_ended(server):
    events = watch(server, "flood")
    seen = [next(events)]
    assert server.info().jobs_waiting == 0  # answered once the flood is over
    with pytest.raises(grpc.RpcError) as caught:
        seen.extend(iter(lambda: next(events), None))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "the watcher is too slow"
    assert server.create(id="a").job.id == "a"


def attach(server, *requests):
    """Attach with these messages; the stream stays open until the sender is told None."""
    sender = Sender()
    for request in requests:
        sender.send(message("AttachRequest")(**request))
    return sender, server.stream(*ATTACH)(iter(sender), timeout=DEADLINE_S)


HELLO = {"hello": {"session_id": "01890000-0000-7000-8000-000000000000", "session_token": "secret"}}


def test_attach_carries_both_ways(server):
    sender, answers = attach(server, HELLO)
    for i in range(1, 5):
        sender.send(message("AttachRequest")(reports={"report_seq": i}))
        assert next(answers).deliveries.delivery_seq == i  # field 1 of both
    sender.send(None)
    assert not list(answers)


@pytest.mark.parametrize("requests, code", [
    ([{"hello": {"session_id": "nonsense", "session_token": "secret"}}], grpc.StatusCode.INVALID_ARGUMENT),
    ([{"hello": {**HELLO["hello"], "session_token": "wrong"}}], grpc.StatusCode.NOT_FOUND),
    ([{"reports": {"report_seq": 1}}], grpc.StatusCode.INVALID_ARGUMENT),
    ([{}], grpc.StatusCode.INVALID_ARGUMENT),
    ([HELLO, HELLO], grpc.StatusCode.INVALID_ARGUMENT),
    ([HELLO, {"reports": {"report_seq": 99}}], grpc.StatusCode.UNAVAILABLE),
])
def test_attach_is_ended(server, requests, code):
    sender, answers = attach(server, *requests)
    assert fails(next, answers).code() == code
    sender.send(None)


def test_attached_worker_that_does_not_read_is_ended(server):
    sender, answers = attach(server, HELLO, {"reports": {"report_seq": 1}})
    next(answers)
    sender.send(message("AttachRequest")(reports={"report_seq": 7}))
    assert server.info().queues == 0
    with pytest.raises(grpc.RpcError) as caught:
        list(answers)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    sender.send(None)


def check(server, service=""):
    """grpc.health.v1.Health.Check."""
    stub = server.unary("grpc.health.v1.Health", "Check", f"{HEALTH}Request", f"{HEALTH}Response")
    return stub(message(f"{HEALTH}Request")(service=service), timeout=DEADLINE_S).status


def test_health_check(server):
    assert check(server) == 1
    assert check(server, "millrace.v1.JobService") == 1
    server.set_serving(False)
    assert check(server, "millrace.v1.WorkerService") == 2
    assert fails(check, server, "nobody").code() == grpc.StatusCode.NOT_FOUND


def test_health_watch():
    server = Server(serving=False)
    stub = server.channel.unary_stream("/grpc.health.v1.Health/Watch", request_serializer=message(f"{HEALTH}Request").SerializeToString,
                                       response_deserializer=message(f"{HEALTH}Response").FromString)
    known = stub(message(f"{HEALTH}Request")(), timeout=DEADLINE_S)
    unknown = stub(message(f"{HEALTH}Request")(service="nobody"), timeout=DEADLINE_S)
    assert next(known).status == 2
    assert next(unknown).status == 3
    server.set_serving(True)
    assert next(known).status == 1
    server.terminate()
    assert next(known).status == 2
    for watcher in (known, unknown):
        assert fails(next, watcher).code() == grpc.StatusCode.UNAVAILABLE
    server.close()


def reflect(server, version="v1", **question):
    """One question to reflection."""
    stub = server.stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                         f"{REFLECTION}Request", f"{REFLECTION}Response")
    return next(stub(iter([message(f"{REFLECTION}Request")(host="h", **question)]), timeout=DEADLINE_S))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_all_services(server, version):
    answer = reflect(server, version, list_services="")
    names = {service.name for service in answer.list_services_response.service}
    assert names == {f"{file.package}.{service.name}" for file in SET.file for service in file.service}
    assert answer.valid_host == "h"
    assert answer.original_request.HasField("list_services")


def files_of(answer):
    """The files in an answer, by name, in order."""
    return [type(SET.file[0]).FromString(one) for one in answer.file_descriptor_response.file_descriptor_proto]


def test_reflection_answers_are_the_descriptor_set(server):
    by_name = {file.name: file for file in SET.file}
    for file in SET.file:
        answer = files_of(reflect(server, file_by_filename=file.name))
        assert answer[0] == file
        names = [one.name for one in answer]
        assert len(set(names)) == len(names)
        assert all(one == by_name[one.name] and set(one.dependency) <= set(names) for one in answer)


def symbols():
    """Every kind of symbol, with its file."""
    def of_message(scope, kind):
        name = f"{scope}.{kind.name}"
        yield name
        yield from (f"{name}.{entry.name}" for entry in kind.enum_type)
        for nested in kind.nested_type:
            yield from of_message(name, nested)

    for file in SET.file:
        for kind in file.message_type:
            yield from ((name, file.name) for name in of_message(file.package, kind))
        yield from ((f"{file.package}.{kind.name}", file.name) for kind in file.enum_type)
        for service in file.service:
            yield f"{file.package}.{service.name}", file.name
            yield from ((f"{file.package}.{service.name}.{method.name}", file.name) for method in service.method)


def test_reflection_finds_symbols(server):
    questions = list(symbols())
    assert {"google.rpc.ErrorInfo", "google.rpc.BadRequest.FieldViolation"} <= {name for name, _ in questions}
    stub = server.stream(f"/{REFLECTION}/ServerReflectionInfo", f"{REFLECTION}Request", f"{REFLECTION}Response")
    requests = (message(f"{REFLECTION}Request")(file_containing_symbol=name) for name, _ in questions)
    answers = [files_of(answer)[0].name for answer in stub(requests, timeout=DEADLINE_S)]
    assert answers == [file for _, file in questions]


def test_reflection_does_not_know(server):
    for question in ({"file_by_filename": "none.proto"}, {"file_containing_symbol": "no.Symbol"}, {"file_containing_symbol": ""},
                     {"file_containing_extension": {"containing_type": "millrace.v1.Job", "extension_number": 1}},
                     {"all_extension_numbers_of_type": "no.Type"}):
        assert reflect(server, **question).error_response.error_code == 5
    assert reflect(server).error_response.error_code == 3
    numbers = reflect(server, all_extension_numbers_of_type="millrace.v1.Job").all_extension_numbers_response
    assert (numbers.base_type_name, list(numbers.extension_number)) == ("millrace.v1.Job", [])


def test_strangers_on_the_port(server):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    sockets = []
    for i in range(60):
        sockets.append(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
        head = (b"", preface, preface + b"\0\0\0\4\0\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n")[i % 4]
        try:
            sockets[-1].sendall(head + os.urandom(i * 200))
        except OSError:
            pass  # cut off already
    assert server.create(id="a").job.id == "a"
    for stranger in sockets:
        stranger.close()
    assert server.create(id="b").job.id == "b"


def test_silent_peer_is_cut_off(server):
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as silent:
        begin = time.monotonic()
        while silent.recv(1000):
            pass
        assert time.monotonic() - begin > 3


def test_keepalive_of_clients_is_welcome(server):
    channel = server.connect(("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_permit_without_calls", 1),
                             ("grpc.http2.max_pings_without_data", 0))
    states = []
    channel.subscribe(states.append)
    server.call("GetServerInfo", None, channel, "AdminService")
    # Three pings' worth: the default server sends such a client away after two.
    assert fails(server.call, "WaitJob", None, channel, timeout=32).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states


def test_stop_answers_what_was_read_from_a_stream():
    server = Server()
    sender = Sender()
    answers = server.stream(*CREATE_STREAM)(iter(sender), timeout=DEADLINE_S)
    idle = server.stream(*CREATE_STREAM)(iter(Sender()), timeout=DEADLINE_S)
    sender.send(jobs("0", queue="late"))
    sender.send(jobs("1", queue="late"))
    wait_until(lambda: server.info().jobs_running == 2, "both to be held")
    server.terminate()
    assert fails(next, idle).code() == grpc.StatusCode.UNAVAILABLE
    assert ids([next(answers), next(answers)]) == ["0", "1"]
    assert fails(next, answers).code() == grpc.StatusCode.UNAVAILABLE
    server.close()


def test_stop_cuts_off_those_who_stay():
    server = Server(grace_ms=300)
    stub = server.unary("millrace.v1.JobService", "CreateJob", "CreateJobRequest", "CreateJobResponse")
    call = stub.future(message("CreateJobRequest")(job={"queue": "late"}))
    wait_until(lambda: server.info().jobs_running == 1, "it to be held")
    server.terminate()
    assert fails(call.result, timeout=DEADLINE_S).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    server.close()
