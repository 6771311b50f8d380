# SPDX-License-Identifier: Apache-2.0
"""Chains and batches."""

from __future__ import annotations

import builtins
import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from millrace import _otel
from millrace._call import Connection
from millrace._convert import Within, batch_from_pb, chain_from_pb, id_to_pb, new_id, spec_to_pb
from millrace._create import JOBS_MAX, Chunker, OneAhead, each, jobs_of, outcomes_of, traced
from millrace._times import Duration
from millrace.errors import InvalidArgument, MillraceError
from millrace.proto.v1 import batch_service_pb2, chain_service_pb2, job_pb2
from millrace.proto.v1.batch_service_pb2_grpc import BatchServiceStub
from millrace.proto.v1.chain_service_pb2_grpc import ChainServiceStub
from millrace.types import Batch, Chain, CreateOutcome, JobSpec

__all__ = ["OUTCOME_NOT_KEPT", "Batches", "Chains"]

OUTCOME_NOT_KEPT: Final = "OUTCOME_NOT_KEPT"
"""The reason in the error of an item of whose outcome nothing is known."""


class Chains:
    """Steps that run one after the other: each becomes ready when the one before has succeeded."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> ChainServiceStub:
        return self._connection.stub(ChainServiceStub)

    def _chain(self, message: Any, *, existing: bool = False) -> Chain:
        return chain_from_pb(message, self._connection.codec, existing=existing)

    async def create(self, steps: Sequence[JobSpec], *, id: str | None = None, on_failure: JobSpec | None = None) -> Chain:
        """Creates a chain of 1 to 1,000 steps. `on_failure` is created once, when a step ends otherwise than by success."""
        routes, codec = self._connection.routes, self._connection.codec
        with _otel.create_span("chain", len(steps)):
            trace = _otel.trace_context()
            request = chain_service_pb2.CreateChainRequest(id=id or new_id())
            ids = _Ids(id)
            for index, step in enumerate(steps):
                with Within(f"steps[{index}]"):
                    request.steps.append(ids.give(traced(spec_to_pb(step, routes, codec, make_id=False), trace), index))
            if on_failure is not None:
                with Within("on_failure"):
                    request.on_failure.CopyFrom(traced(spec_to_pb(on_failure, routes, codec, make_id=False), trace))
            response = await self._connection.call(self._stub.CreateChain, request)
        return self._chain(response.chain, existing=response.existing)

    async def get(self, chain_id: str) -> Chain:
        """The chain. Raises NotFound."""
        response = await self._connection.call(self._stub.GetChain, chain_service_pb2.GetChainRequest(id=chain_id))
        return self._chain(response.chain)

    async def wait(self, chain_id: str, *, timeout: Duration | None = 60.0) -> Chain:
        """The chain once it has ended. Raises WaitTimeout; None waits for ever."""

        async def ask(span: Any, deadline_s: float) -> Any:
            request = chain_service_pb2.WaitChainRequest(id=chain_id, timeout=span)
            return await self._connection.call(self._stub.WaitChain, request, timeout_s=deadline_s)

        return self._chain((await self._connection.wait(ask, f"chain {chain_id}", timeout)).chain)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[Chain]:
        """All chains, page by page."""
        request = chain_service_pb2.ListChainsRequest(page_size=page_size)
        async for response in self._connection.pages(lambda: self._stub.ListChains, request):
            for chain in response.chains:
                yield self._chain(chain)

    async def cancel(self, chain_id: str, *, terminate: bool = False, reason: str = "") -> Chain:
        """Cancels the steps that have not ended."""
        request = chain_service_pb2.CancelChainRequest(id=chain_id, terminate=terminate, reason=reason)
        response = await self._connection.call(self._stub.CancelChain, request)
        return self._chain(response.chain)


class Batches:
    """Many jobs that are counted together, with callbacks when all have ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> BatchServiceStub:
        return self._connection.stub(BatchServiceStub)

    def _spec(self, spec: JobSpec, trace: tuple[str, str], path: str) -> job_pb2.JobSpec:
        with Within(path):
            return traced(spec_to_pb(spec, self._connection.routes, self._connection.codec, make_id=False), trace)

    async def create(
        self,
        items: Iterable[JobSpec] | AsyncIterable[JobSpec] = (),
        *,
        id: str | None = None,
        description: str = "",
        defaults: JobSpec | None = None,
        on_success: JobSpec | None = None,
        on_complete: JobSpec | None = None,
        chunk_size: int = JOBS_MAX,
        seal: bool = True,
    ) -> Batch:
        """Creates a batch of up to 1,000,000 items, in chunks; members start while others are still being sent. The batch's `outcomes`
        tell of each item, in order. The server does not keep those of a chunk that it had taken before, be it that its first answer was
        lost or that a part of the batch had been sent: such items have an error with the reason OUTCOME_NOT_KEPT, and if all are such,
        `outcomes` is empty. An error that ends the create has the `outcomes` of the items sent before; with an `id` of yours, the batch
        can be sent again.

        What items leave open is taken from `defaults`. `on_success` is created when the last member ends, if all succeeded, and
        `on_complete` in any case. Without `seal` the batch takes more items by `add`, until it is sealed or an hour passes without any.
        """
        request = batch_service_pb2.CreateBatchRequest(id=id or new_id(), description=description)
        with _otel.create_span("batch"):
            trace = _otel.trace_context()
            for name, spec in (("defaults", defaults), ("on_success", on_success), ("on_complete", on_complete)):
                if spec is not None:
                    getattr(request, name).CopyFrom(self._spec(spec, trace, name))
            chunks = self._chunks(items, chunk_size, trace, id)
            first: builtins.list[job_pb2.JobSpec] = await anext(chunks, [])
            second = await anext(chunks, None)
            request.items.extend(first)
            request.seal = seal and second is None
            response = await self._connection.call(self._stub.CreateBatch, request)
            outcomes = _outcomes_of_chunk(first, response.outcomes, response.existing)
            if second is None:
                return replace(batch_from_pb(response.batch, existing=response.existing), outcomes=_known(outcomes))

            async def add(chunk: int, jobs: builtins.list[job_pb2.JobSpec], is_last: bool) -> None:
                with _Renumbered(len(outcomes)):
                    answer = await self._add(request.id, chunk, jobs, last=seal and is_last)
                outcomes.extend(_outcomes_of_chunk(jobs, answer.outcomes, answer.repeated_chunk))

            try:
                async with OneAhead() as calls:
                    async for chunk, jobs, is_last in _numbered(second, chunks):
                        await calls.run(add(chunk, jobs, is_last))
                batch = await self.get(request.id)
            except MillraceError as error:
                error.outcomes = _known(outcomes)
                raise
        return replace(batch, existing=response.existing, outcomes=_known(outcomes))

    async def _chunks(
        self, items: Iterable[JobSpec] | AsyncIterable[JobSpec], size: int, trace: tuple[str, str], id: str | None
    ) -> AsyncIterator[builtins.list[job_pb2.JobSpec]]:
        chunker = Chunker(min(max(size, 1), JOBS_MAX))
        ids = _Ids(id)
        index = 0
        async for item in each(items):
            if full := chunker.add(ids.give(self._spec(item, trace, f"items[{index}]"), index)):
                yield jobs_of(full)
            index += 1
        if rest := chunker.rest():
            yield jobs_of(rest)

    async def add(self, batch_id: str, chunk: int, items: Sequence[JobSpec], *, last: bool = False) -> builtins.list[CreateOutcome]:
        """Adds a chunk of 1 to 1,000 items. Chunks are numbered 1, 2, … over the batch's life (items of `create` were the first ones, see
        `last_chunk`). A chunk whose number was taken before changes nothing, and is answered without outcomes, which the server does not
        keep: who needs the ids gives the items ids, or lists the batch's jobs. `last` seals."""
        trace = _otel.trace_context()
        ids = _Ids(None)
        jobs = [ids.give(self._spec(item, trace, f"items[{index}]"), index) for index, item in enumerate(items)]
        answer = await self._add(batch_id, chunk, jobs, last=last)
        return [] if answer.repeated_chunk else outcomes_of(jobs, answer.outcomes)

    async def _add(self, batch_id: str, chunk: int, jobs: builtins.list[job_pb2.JobSpec], *, last: bool) -> Any:
        """A stream of one message, which gRPC does not repeat by itself."""
        request = batch_service_pb2.AddBatchItemsRequest(batch_id=batch_id, chunk=chunk, items=jobs, last=last)
        return await self._connection.exchange(lambda: self._stub.AddBatchItems, request)

    async def seal(self, batch_id: str) -> Batch:
        """No more items: the batch ends when its members have."""
        response = await self._connection.call(self._stub.SealBatch, batch_service_pb2.SealBatchRequest(id=batch_id))
        return batch_from_pb(response.batch)

    async def get(self, batch_id: str) -> Batch:
        """The batch. Raises NotFound."""
        response = await self._connection.call(self._stub.GetBatch, batch_service_pb2.GetBatchRequest(id=batch_id))
        return batch_from_pb(response.batch)

    async def wait(self, batch_id: str, *, timeout: Duration | None = 60.0) -> Batch:
        """The batch once it has ended. Raises WaitTimeout; None waits for ever."""

        async def ask(span: Any, deadline_s: float) -> Any:
            request = batch_service_pb2.WaitBatchRequest(id=batch_id, timeout=span)
            return await self._connection.call(self._stub.WaitBatch, request, timeout_s=deadline_s)

        return batch_from_pb((await self._connection.wait(ask, f"batch {batch_id}", timeout)).batch)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[Batch]:
        """All batches, page by page."""
        request = batch_service_pb2.ListBatchesRequest(page_size=page_size)
        async for response in self._connection.pages(lambda: self._stub.ListBatches, request):
            for batch in response.batches:
                yield batch_from_pb(batch)

    async def cancel(self, batch_id: str, *, terminate: bool = False, reason: str = "") -> Batch:
        """Seals the batch and cancels the members that have not ended."""
        request = batch_service_pb2.CancelBatchRequest(id=batch_id, terminate=terminate, reason=reason)
        response = await self._connection.call(self._stub.CancelBatch, request)
        return batch_from_pb(response.batch)


class _Ids:
    """Of jobs that have none. When the caller chose their parent's, they follow from it: sent again, they must be the same."""

    def __init__(self, parent: str | None) -> None:
        self._parent = uuid.UUID(id_to_pb(parent)) if parent is not None else None

    def give(self, job: job_pb2.JobSpec, index: int) -> job_pb2.JobSpec:
        """The same job, with an id."""
        if not job.id:
            job.id = str(uuid.uuid5(self._parent, str(index))) if self._parent is not None else new_id()
        return job


class _Renumbered:
    """Makes the number of an item in its chunk that of the item in the batch, in the field at fault."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidArgument) and error.field:
            error.field = re.sub(r"^items\[(\d+)\]", lambda found: f"items[{int(found[1]) + self._start}]", error.field)


def _outcomes_of_chunk(jobs: list[job_pb2.JobSpec], answers: Any, was_taken_before: bool) -> list[CreateOutcome]:
    """One for each item, also of a chunk that is answered without any: those of later chunks must not be taken for theirs."""
    if not was_taken_before:
        return outcomes_of(jobs, answers)
    fault = "the chunk of this item had been taken before, and the server does not keep the outcomes"
    return [CreateOutcome(job.id, error=MillraceError(fault, reason=OUTCOME_NOT_KEPT)) for job in jobs]


def _known(outcomes: Sequence[CreateOutcome]) -> tuple[CreateOutcome, ...]:
    """All of them, if any is known."""
    return tuple(outcomes) if any(getattr(outcome.error, "reason", None) != OUTCOME_NOT_KEPT for outcome in outcomes) else ()


async def _numbered(
    second: list[job_pb2.JobSpec], others: AsyncIterator[list[job_pb2.JobSpec]]
) -> AsyncIterator[tuple[int, list[job_pb2.JobSpec], bool]]:
    """Chunks from the second on, with their numbers, and whether each is the last."""
    number, jobs = 2, second
    async for following in others:
        yield number, jobs, False
        number, jobs = number + 1, following
    yield number, jobs, True
