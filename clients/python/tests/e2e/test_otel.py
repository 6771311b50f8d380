# SPDX-License-Identifier: Apache-2.0
"""Spans of producers and workers, linked through the job."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from millrace import Client, JobSpec, Registry, RetryPolicy, Worker


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """OpenTelemetry allows one provider per process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def only(spans: tuple[ReadableSpan, ...], name: str) -> ReadableSpan:
    (span,) = [span for span in spans if span.name == name]
    return span


async def test_a_run_belongs_to_the_trace_of_its_create(client: Client, queue: str, exporter: InMemorySpanExporter) -> None:
    registry = Registry()

    @registry.task
    def fine() -> str:
        return format(trace.get_current_span().get_span_context().trace_id, "032x")

    @registry.task
    async def broken() -> None:
        raise ValueError("it broke")

    worker = Worker(registry=registry, pool="threads", concurrency=1, queues={queue: 1})
    serving = asyncio.create_task(worker.serve())
    with trace.get_tracer("test").start_as_current_span("request"):
        created = await client.create("fine", queue=queue)
        await client.create_many([JobSpec("broken", queue=queue, retry=RetryPolicy(max_attempts=1))])
    result = (await client.wait(created.id)).result
    while (await client.queues.get(queue)).counts.failed == 0:
        await asyncio.sleep(0.05)
    worker.stop()
    await serving
    spans = exporter.get_finished_spans()
    request, create, run = only(spans, "request"), only(spans, "create fine"), only(spans, "run fine")
    assert (create.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert create.parent is not None
    assert create.parent.span_id == request.context.span_id
    assert run.parent is not None
    assert run.parent.span_id == create.context.span_id
    assert run.attributes is not None
    assert run.attributes["messaging.message.id"] == created.id
    assert result == format(request.context.trace_id, "032x")
    failed = only(spans, "run broken")
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.context.trace_id == request.context.trace_id
    assert failed.events[0].name == "exception"
