# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry, if it is installed: a span for each create and each run, linked through the trace context kept with the job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from millrace._version import VERSION

try:
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    HAS_OTEL = False
else:
    HAS_OTEL = True
    _propagator = TraceContextTextMapPropagator()

if TYPE_CHECKING:
    from millrace.context import JobContext

_NAME = "millrace"


def trace_context() -> tuple[str, str]:
    """traceparent and tracestate of the current span; empty when there is none."""
    if not HAS_OTEL:
        return "", ""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", ""), carrier.get("tracestate", "")


@contextmanager
def create_span(task: str, count: int = 1) -> Iterator[None]:
    """Around a create: its context is what the job keeps."""
    if not HAS_OTEL:
        yield
        return
    attributes: dict[str, str | int] = {
        "messaging.system": "millrace",
        "messaging.operation.type": "create",
        "messaging.destination.name": task,
        "messaging.batch.message_count": count,
    }
    with trace.get_tracer(_NAME, VERSION).start_as_current_span(f"create {task}", kind=SpanKind.PRODUCER, attributes=attributes):
        yield


@contextmanager
def run_span(context: JobContext) -> Iterator[None]:
    """Around an attempt: a child of the span that created the job."""
    if not HAS_OTEL:
        yield
        return
    parent = _propagator.extract({"traceparent": context.traceparent, "tracestate": context.tracestate})
    attributes: dict[str, str | int] = {
        "messaging.system": "millrace",
        "messaging.operation.type": "process",
        "messaging.destination.name": context.queue,
        "messaging.message.id": context.job_id,
        "millrace.task": context.task,
        "millrace.attempt": context.attempt,
    }
    tracer = trace.get_tracer(_NAME, VERSION)
    with tracer.start_as_current_span(
        f"run {context.task}", parent, kind=SpanKind.CONSUMER, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except Exception as error:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, str(error)))
            raise
