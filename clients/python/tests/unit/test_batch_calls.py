# SPDX-License-Identifier: Apache-2.0
"""Batches against a gRPC server that says what the test tells it to: answers that are lost or refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from fake_service import Service, packed
from millrace import Client, InvalidArgument, JobSpec
from millrace.jobs.service import MillraceQueueBackend
from millrace.proto.v1 import batch_service_pb2
from millrace.proto.v1 import job_service_pb2 as pb


async def test_a_batch_whose_answer_was_lost_tells_what_it_knows(service: tuple[Service, str]) -> None:
    """Of six items in chunks of two, the second one is refused; the answer to the second chunk is lost, and with it two outcomes."""
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, batch_service_pb2.AddBatchItemsRequest):
            outcomes = [pb.CreateOutcome(id=item.id) for item in request.items] if request.chunk == 3 else []
            return batch_service_pb2.AddBatchItemsResponse(chunk=request.chunk, repeated_chunk=not outcomes, outcomes=outcomes)
        batch = batch_service_pb2.Batch(id=request.id, total=4)
        if isinstance(request, batch_service_pb2.GetBatchRequest):
            return batch_service_pb2.GetBatchResponse(batch=batch)
        taken = status_pb2.Status(code=code_pb2.ALREADY_EXISTS, message="the id is taken")
        outcomes = [pb.CreateOutcome(id=request.items[0].id), pb.CreateOutcome(id=request.items[1].id, error=taken)]
        return batch_service_pb2.CreateBatchResponse(batch=batch, outcomes=outcomes)

    async def items() -> AsyncIterator[JobSpec]:
        for number in range(6):
            yield JobSpec("t", args=[number])

    fake.answer = answer
    async with Client(address) as client:
        outcomes = (await client.batches.create(items(), chunk_size=2)).outcomes
        assert [getattr(outcome.error, "code", None) for outcome in outcomes] == [None, "ALREADY_EXISTS", "UNKNOWN", "UNKNOWN", None, None]
        result = await MillraceQueueBackend(client).enqueue_batch(items(), 2)
        assert (result.total, result.enqueued, result.error) == (6, 4, "the id is taken")


async def test_a_new_chunk_without_outcomes_is_no_chunk_taken_before(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, batch_service_pb2.AddBatchItemsRequest):
            return batch_service_pb2.AddBatchItemsResponse(chunk=request.chunk, repeated_chunk=request.chunk == 1)
        return batch_service_pb2.CreateBatchResponse(batch=batch_service_pb2.Batch(id=request.id))

    fake.answer = answer
    async with Client(address) as client:
        batch = await client.batches.create([JobSpec("t")])
        added = await client.batches.add(batch.id, 2, [JobSpec("t")])
        assert [getattr(outcome.error, "code", None) for outcome in (*batch.outcomes, *added)] == ["INTERNAL", "INTERNAL"]
        assert await client.batches.add(batch.id, 1, [JobSpec("t")]) == []


async def test_a_batch_of_which_nothing_is_known_counts_its_members(service: tuple[Service, str]) -> None:
    fake, address = service
    total = 1

    async def answer(request: Any, context: Any) -> Any:
        return batch_service_pb2.CreateBatchResponse(batch=batch_service_pb2.Batch(id=request.id, total=total), existing=True)

    async def items() -> AsyncIterator[JobSpec]:
        for number in range(2):
            yield JobSpec("t", args=[number])

    fake.answer = answer
    async with Client(address) as client:
        backend = MillraceQueueBackend(client)
        result = await backend.enqueue_batch(items(), 1000)
        assert (result.total, result.enqueued) == (2, 1)
        assert "1 of 2 items are no members" in (result.error or "")
        total = 2
        result = await backend.enqueue_batch(items(), 1000)
        assert (result.total, result.enqueued, result.error) == (2, 2, None)


async def test_a_later_chunk_that_is_refused_names_the_item_and_tells_of_those_before(service: tuple[Service, str]) -> None:
    fake, address = service

    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, batch_service_pb2.AddBatchItemsRequest):
            violation = error_details_pb2.BadRequest.FieldViolation(field="items[1].task", description="bad")
            details = packed(error_details_pb2.BadRequest(field_violations=[violation]))
            status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="it is bad", details=details)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it is bad", (("grpc-status-details-bin", status.SerializeToString()),))
        outcomes = [pb.CreateOutcome(id=item.id) for item in request.items]
        return batch_service_pb2.CreateBatchResponse(batch=batch_service_pb2.Batch(id=request.id, total=2), outcomes=outcomes)

    fake.answer = answer
    async with Client(address) as client:
        with pytest.raises(InvalidArgument) as fault:
            await client.batches.create([JobSpec("t") for _ in range(4)], chunk_size=2)
    assert fault.value.field == "items[3].task"
    assert [outcome.id for outcome in fault.value.outcomes] == [item.id for item in fake.requests[0].items]
