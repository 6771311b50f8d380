# SPDX-License-Identifier: Apache-2.0
"""The client against a gRPC server that says what the test tells it to: what goes over the wire, and what comes of errors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from fake_service import Service, accept, packed
from millrace import (
    Client,
    Created,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    JobExists,
    JobNotFound,
    JobSpec,
    MillraceError,
    QueueFull,
    Unavailable,
)
from millrace.proto.v1 import batch_service_pb2
from millrace.proto.v1 import job_service_pb2 as pb
from millrace.proto.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server


async def test_creates_that_wait_go_out_together(service: tuple[Service, str]) -> None:
    fake, address = service
    gate = asyncio.Event()

    async def answer(request: Any, context: Any) -> Any:
        await gate.wait()
        return accept(request)

    fake.answer = answer
    async with Client(address) as client:
        first = asyncio.create_task(client.create("t", args=[0]))
        await fake.called.wait()
        others = [asyncio.create_task(client.create("t", args=[number])) for number in range(1, 1501)]
        gone = asyncio.create_task(client.create("t", args=["gone"]))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        gate.set()
        ids = [(await task).id for task in (first, *others)]
    assert [len(request.jobs) for request in fake.requests] == [1, 1000, 500]
    assert [job.id for request in fake.requests for job in request.jobs] == ids
    assert "gone" not in str(fake.requests)


async def test_each_create_gets_its_own_outcome(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        response = accept(request)
        for index, job in enumerate(request.jobs):
            if job.task == "bad":
                violation = error_details_pb2.BadRequest.FieldViolation(field=f"jobs[{index}].task", description="bad")
                details = packed(error_details_pb2.BadRequest(field_violations=[violation]))
                response.outcomes[index].error.CopyFrom(
                    status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="it is bad", details=details)
                )
            if job.task == "twice":
                response.outcomes[index].existing = True
        return response

    fake.answer = answer
    async with Client(address) as client:
        good, bad, twice = await asyncio.gather(*(client.create(task) for task in ("good", "bad", "twice")), return_exceptions=True)
        assert not isinstance(good, BaseException)
        assert not good.existing
        assert isinstance(bad, InvalidArgument)
        assert (bad.field, str(bad)) == ("task", "it is bad")
        assert not isinstance(twice, BaseException)
        assert twice.existing
        with pytest.raises(InvalidArgument, match="NUL"):
            await client.create("a\0b")
        unencodable = JobSpec("t", args=[float("nan")])
        outcomes = await client.create_many([JobSpec("good"), unencodable, JobSpec("bad")])
        assert [type(outcome.error) for outcome in outcomes[::2]] == [type(None), InvalidArgument]
        assert isinstance(outcomes[1].error, InvalidArgument)
        assert outcomes[1].error.field == "args[0]"


async def test_a_bulk_create_makes_the_next_jobs_while_a_call_is_under_way(service: tuple[Service, str]) -> None:
    fake, address = service
    made: list[int] = []
    all_made = asyncio.Event()

    def specs() -> Iterator[JobSpec]:
        for number in range(2500):
            made.append(number)
            yield JobSpec("t", args=[number])
            if number == 1999:
                all_made.set()

    async def answer(request: Any, context: Any) -> Any:
        if len(fake.requests) == 1:
            await all_made.wait()
        return accept(request)

    fake.answer = answer
    async with Client(address) as client, asyncio.timeout(60):
        outcomes = await client.create_many(specs())
    assert [len(request.jobs) for request in fake.requests] == [1000, 1000, 500]
    assert [job.payload.json for request in fake.requests for job in request.jobs] == [f"[{number}]" for number in range(2500)]
    assert [outcome.id for outcome in outcomes] == [job.id for request in fake.requests for job in request.jobs]


async def test_a_bulk_create_whose_iterable_fails_finishes_the_call_under_way(service: tuple[Service, str]) -> None:
    fake, address = service
    answered = asyncio.Event()
    failing = asyncio.Event()

    def specs() -> Iterator[JobSpec]:
        for number in range(1500):
            yield JobSpec("t", args=[number])
        failing.set()
        raise RuntimeError("no more rows")

    async def answer(request: Any, context: Any) -> Any:
        await failing.wait()
        answered.set()
        return accept(request)

    fake.answer = answer
    async with Client(address) as client, asyncio.timeout(60):
        with pytest.raises(RuntimeError, match="no more rows"):
            await client.create_many(specs())
        assert answered.is_set()
    assert [len(request.jobs) for request in fake.requests] == [1000]


async def test_a_bulk_create_that_is_cancelled_ends_its_call(service: tuple[Service, str]) -> None:
    fake, address = service
    ended = asyncio.Event()

    async def answer(request: Any, context: Any) -> Any:
        context.add_done_callback(lambda _: ended.set())
        await asyncio.Event().wait()

    fake.answer = answer
    async with Client(address, timeout=300) as client, asyncio.timeout(60):
        bulk = asyncio.create_task(client.create_many(JobSpec("t", args=[number]) for number in range(2500)))
        await fake.called.wait()
        bulk.cancel()
        await asyncio.wait({bulk}, timeout=30)
        assert bulk.cancelled()
        await ended.wait()


async def test_a_bulk_create_lets_others_run_while_it_makes_jobs(service: tuple[Service, str]) -> None:
    fake, address = service
    turns = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def specs() -> Iterator[JobSpec]:
        for number in range(900):
            seen.append(turns)
            yield JobSpec("t", args=[number])

    async def answer(request: Any, context: Any) -> Any:
        return accept(request)

    fake.answer = answer
    other = asyncio.create_task(others())
    async with Client(address) as client, asyncio.timeout(60):
        await client.create_many(specs())
    other.cancel()
    assert seen[-1] - seen[0] >= 10


async def test_a_create_that_waits_too_long_is_not_sent(service: tuple[Service, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake, address = service
    gate = asyncio.Event()

    async def answer(request: Any, context: Any) -> Any:
        await gate.wait()
        return accept(request)

    fake.answer = answer
    async with Client(address, timeout=300) as client, asyncio.timeout(60):
        first = asyncio.create_task(client.create("first"))
        await fake.called.wait()
        monkeypatch.setattr(client._connection, "timeout_s", 0.2)
        with pytest.raises(DeadlineExceeded, match="was not sent"):
            await client.create("late")
        monkeypatch.undo()
        gate.set()
        await first
        await client.create("last")
    assert [job.task for request in fake.requests for job in request.jobs] == ["first", "last"]


async def test_a_job_whose_outcome_is_missing_has_failed(service: tuple[Service, str]) -> None:
    fake, address = service
    gate = asyncio.Event()
    wrong = -1

    async def answer(request: Any, context: Any) -> Any:
        await gate.wait()
        jobs = request.items if isinstance(request, batch_service_pb2.AddBatchItemsRequest) else request.jobs
        outcomes = [pb.CreateOutcome(id=job.id) for job in [*jobs, *jobs][: len(jobs) + wrong]]
        kinds = {
            batch_service_pb2.AddBatchItemsRequest: batch_service_pb2.AddBatchItemsResponse,
            pb.CreateJobsStreamRequest: pb.CreateJobsStreamResponse,
        }
        return kinds.get(type(request), pb.CreateJobsResponse)(outcomes=outcomes)

    fake.answer = answer
    specs = [JobSpec("t"), JobSpec("t")]
    async with Client(address, timeout=300) as client, asyncio.timeout(60):
        first = asyncio.create_task(client.create("t"))
        await fake.called.wait()
        others = [asyncio.create_task(client.create("t")) for _ in range(2)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(result) for result in results] == [InternalError, Created, InternalError]
        for number, errors in ((-1, [type(None), InternalError]), (1, [type(None)] * 2)):
            wrong = number
            many = await client.create_many(specs)
            stream = [outcome async for outcome in client.create_stream(specs)]
            batch = await client.batches.add("b", 1, specs)
            for outcomes in (many, stream, batch):
                assert [type(outcome.error) for outcome in outcomes] == errors
                assert all(outcome.id for outcome in outcomes)


async def test_a_call_that_fails_tells_of_each_job_of_a_bulk_create(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        if len(fake.requests) == 2:
            await context.abort(grpc.StatusCode.INTERNAL, "a fault")
        return accept(request)

    fake.answer = answer
    specs = [JobSpec("t", args=[float("nan") if number == 1500 else number]) for number in range(2500)]
    async with Client(address) as client, asyncio.timeout(60):
        with pytest.raises(MillraceError, match="a fault") as fault:
            await client.create_many(specs)
        told = fault.value.outcomes
        assert [outcome.error is fault.value for outcome in told] == [1000 <= number != 1500 for number in range(2500)]
        assert [outcome.id for outcome in told[:1000]] == [job.id for job in fake.requests[0].jobs]
        assert [outcome.id for outcome in told[1000:] if outcome.id][: len(fake.requests[1].jobs)] == [
            job.id for job in fake.requests[1].jobs
        ]
        fake.requests.clear()
        fake.called.clear()
        first = asyncio.create_task(client.create("t"))
        await fake.called.wait()
        faults = await asyncio.gather(client.create("t"), client.create("t"), first, return_exceptions=True)
        ids = [[outcome.id for outcome in fault.outcomes] for fault in faults if isinstance(fault, MillraceError)]
        assert ids == [[job.id] for job in fake.requests[1].jobs]
        assert len(ids) == 2


async def test_a_stream_that_ends_while_its_source_pauses_tells_what_was_not_answered(
    service: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, address = service
    streams: list[Any] = []
    accepted = asyncio.Event()
    made: list[str] = []

    async def answer(request: Any, context: Any) -> Any:
        asyncio.get_running_loop().call_soon(accepted.set)
        return pb.CreateJobsStreamResponse(outcomes=accept(request).outcomes)

    async def specs() -> AsyncIterator[JobSpec]:
        for number in range(600):
            if number == 300:
                await accepted.wait()
                while not streams[0].done():
                    await asyncio.sleep(0.01)
            yield JobSpec("t", args=[number])

    fake.answer = answer
    fake.stream_end = grpc.StatusCode.UNAVAILABLE
    async with Client(address) as client, asyncio.timeout(60):
        open_stream = client._connection.stream
        monkeypatch.setattr(client._connection, "stream", lambda method: streams.append(open_stream(method)) or streams[0])

        async def create() -> None:
            async for outcome in client.create_stream(specs()):
                made.append(outcome.id)

        with pytest.raises(Unavailable, match="stopping") as fault:
            await create()
    assert made == [job.id for job in fake.requests[0].jobs]
    assert len(made) == 250
    left = fault.value.outcomes
    assert len({outcome.id for outcome in left} - set(made)) == len(left) > 250
    assert all(outcome.error is fault.value for outcome in left)


async def test_unavailable_is_tried_again_with_the_same_id(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        if len(fake.requests) < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return accept(request)

    fake.answer = answer
    async with Client(address) as client:
        created = await client.create("t")
    assert [request.jobs[0].id for request in fake.requests] == [created.id] * 3


async def test_nothing_else_is_tried_again(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.INTERNAL, "a fault")

    fake.answer = answer
    async with Client(address) as client:
        with pytest.raises(MillraceError, match="a fault") as error:
            await client.create("t")
    assert error.value.code == "INTERNAL"
    assert len(fake.requests) == 1


async def test_a_chunk_of_a_batch_is_sent_again_with_its_number(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        if len(fake.requests) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return batch_service_pb2.AddBatchItemsResponse(
            chunk=request.chunk, outcomes=[pb.CreateOutcome(id=item.id) for item in request.items]
        )

    fake.answer = answer
    async with Client(address) as client:
        outcomes = await client.batches.add("b", 7, [JobSpec("t"), JobSpec("t")], last=True)
    assert [(request.chunk, request.last) for request in fake.requests] == [(7, True)] * 2
    assert [outcome.id for outcome in outcomes] == [item.id for item in fake.requests[0].items]


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (code_pb2.NOT_FOUND, "", JobNotFound),
        (code_pb2.ALREADY_EXISTS, "UNIQUE_KEY_TAKEN", JobExists),
        (code_pb2.RESOURCE_EXHAUSTED, "QUEUE_FULL", QueueFull),
        (code_pb2.UNAVAILABLE, "", Unavailable),
    ],
)
async def test_errors_are_typed_and_carry_what_the_server_says(
    service: tuple[Service, str], code: int, reason: str, kind: type[MillraceError]
) -> None:
    fake, address = service
    details = packed(
        error_details_pb2.ErrorInfo(reason=reason, domain="millrace", metadata={"subject": "the-other"}),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3)),
    )
    status = status_pb2.Status(code=code, message="a sentence", details=details)

    async def answer(request: Any, context: Any) -> Any:
        grpc_code = next(known for known in grpc.StatusCode if known.value[0] == code)
        await context.abort(grpc_code, "a sentence", (("grpc-status-details-bin", status.SerializeToString()),))

    fake.answer = answer
    async with Client(address) as client:
        with pytest.raises(kind, match="a sentence") as error:
            await client.get("id")
    assert error.value.subject == "the-other"
    assert error.value.retry_after is not None
    assert error.value.retry_after.total_seconds() == 3


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("job.retry_policy.kind", "retry.backoff"),
        ("jobs[0].retry_policy.max_attempts", "retry.max_attempts"),
        ("job.unique_key.key", "unique.key"),
        ("jobs[0].unique_key.rule", "unique.return_existing"),
        ("job.concurrency_key.limit", "concurrency.limit"),
        ("job.concurrency_key", "concurrency"),
        ('jobs[0].labels["my.unique_key.x"]', 'labels["my.unique_key.x"]'),
        ("job.task", "task"),
    ],
)
async def test_a_field_at_fault_is_told_as_job_spec_has_it(service: tuple[Service, str], theirs: str, ours: str) -> None:
    fake, address = service
    violation = error_details_pb2.BadRequest.FieldViolation(field=theirs, description="bad")
    status = status_pb2.Status(
        code=code_pb2.INVALID_ARGUMENT, message="bad", details=packed(error_details_pb2.BadRequest(field_violations=[violation]))
    )

    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, pb.CreateJobsRequest):
            return pb.CreateJobsResponse(outcomes=[pb.CreateOutcome(error=status)])
        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad", (("grpc-status-details-bin", status.SerializeToString()),))

    fake.answer = answer
    async with Client(address, coalesce=theirs.startswith("jobs")) as client:
        with pytest.raises(InvalidArgument) as error:
            await client.create("t")
    assert error.value.field == ours


async def test_every_call_has_a_deadline(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        await asyncio.sleep(60)

    fake.answer = answer
    async with Client(address, timeout=0.2) as client:
        with pytest.raises(DeadlineExceeded) as error:
            await client.create("t")
        assert isinstance(error.value, TimeoutError)


async def test_no_server_is_unavailable() -> None:
    async with Client("127.0.0.1:1", timeout=20) as client:
        with pytest.raises(Unavailable):
            await client.get("id")


async def test_token_and_tls_with_a_client_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    server_pair, client_pair = authority.issue_cert("localhost"), authority.issue_cert("client")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client_pair.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    client_pair.private_key_pem.write_to_path(tmp_path / "client.key")
    server, service = grpc.aio.server(), Service()
    add_JobServiceServicer_to_server(service, server)
    credentials = grpc.ssl_server_credentials(
        [(server_pair.private_key_pem.bytes(), server_pair.cert_chain_pems[0].bytes())], authority.cert_pem.bytes(), True
    )
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()

    async def answer(request: Any, context: Any) -> Any:
        return accept(request)

    service.answer = answer
    monkeypatch.setenv("MILLRACE_ADDRESS", f"localhost:{port}")
    monkeypatch.setenv("MILLRACE_CA", os.fspath(tmp_path / "ca.pem"))
    monkeypatch.setenv("MILLRACE_TOKEN", "a-token")
    async with Client(certificate=(tmp_path / "client.pem", tmp_path / "client.key")) as client:
        await client.create("t")
    assert service.metadata[0]["authorization"] == "Bearer a-token"
    async with Client(timeout=20) as nameless:
        with pytest.raises(Unavailable):
            await nameless.create("t")
    with pytest.raises(InvalidArgument, match="no-such-file"):
        Client(ca=tmp_path / "no-such-file")
    await server.stop(None)
