# SPDX-License-Identifier: Apache-2.0
"""Between our own types and the messages of the API. Nothing else knows both."""

from __future__ import annotations

import numbers
import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeVar

from google.protobuf import wrappers_pb2
from google.protobuf.message import Message

from millrace._times import Duration, delta_from_pb, duration_to_pb, time_from_pb, time_to_pb
from millrace.errors import InvalidArgument
from millrace.payload import Codec, Payload, encode, encode_call
from millrace.proto.v1 import (
    batch_service_pb2 as batches,
)
from millrace.proto.v1 import (
    chain_service_pb2 as chains,
)
from millrace.proto.v1 import (
    common_pb2 as common,
)
from millrace.proto.v1 import (
    job_pb2 as jobs,
)
from millrace.proto.v1 import (
    queue_service_pb2 as queues,
)
from millrace.proto.v1 import (
    schedule_service_pb2 as schedules,
)
from millrace.proto.v1 import (
    worker_service_pb2 as workers,
)
from millrace.routing import Routes
from millrace.types import (
    NO_PAYLOAD,
    Attempt,
    AttemptOutcome,
    Batch,
    BatchState,
    Chain,
    ChainState,
    ConcurrencyKey,
    Job,
    JobError,
    JobFilter,
    JobPriority,
    JobSpec,
    JobState,
    LogLine,
    Progress,
    Queue,
    QueueCounts,
    QueueSettings,
    RetryPolicy,
    Schedule,
    ScheduleOverlap,
    ScheduleSpec,
    UniqueKey,
    WaitingReason,
    WorkerInfo,
)

_TO_PRIORITY: Final = {JobPriority.LOW: 1, JobPriority.NORMAL: 5, JobPriority.HIGH: 8, JobPriority.CRITICAL: 10}
_FROM_PRIORITY: Final = {number: priority for priority, number in _TO_PRIORITY.items()}
E = TypeVar("E", bound=StrEnum)


class _Ids:
    """The last moment that an id was made of: milliseconds, then a counter of 12 bits."""

    lock = threading.Lock()
    last = 0


def new_id() -> str:
    """A UUIDv7: time in milliseconds, a counter (RFC 9562, section 6.2, method 1), chance. Ids rise within the process, so that what is
    made together lies together in the store: jobs of random order cost the server a quarter more."""
    with _Ids.lock:
        _Ids.last = moment = max(_Ids.last + 1, time.time_ns() // 1_000_000 << 12)
    chance = int.from_bytes(os.urandom(8), "big") >> 2
    digits = f"{moment >> 12 << 80 | 7 << 76 | (moment & 0xFFF) << 64 | 2 << 62 | chance:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _from_enum(kind: type[E], wrapper: Any, number: int) -> E | None:
    """The value named like the API's, without its prefix; None for 0 and for those of a later version."""
    if not number:
        return None
    try:
        name = wrapper.Name(number)
    except ValueError:
        return None
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in kind.__name__).lstrip("_") + "_"
    try:
        return kind(name.removeprefix(prefix).lower())
    except ValueError:
        return None


def _text(value: Any, field: str) -> str:
    """A text that a message can carry and the server takes. One that it can't would cost the jobs beside it their call."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{field} must be text, not {value!r}", field=field)
    if "\0" in value:
        raise InvalidArgument(f"{field} has a NUL character, which no text may have", field=field)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(f"{field} has half of a surrogate pair, which is no Unicode text", field=field) from None
    return value


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real | Decimal):
        raise InvalidArgument(f"{field} must be a number, not {value!r}", field=field)
    try:
        return float(value)
    except (OverflowError, ValueError):  # a whole number without end, a signalling NaN
        raise InvalidArgument(f"{field} is no number that can be sent", field=field) from None


def _of_kind(kind: type[Any], value: Any, field: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidArgument(f"{field} must be a {kind.__name__}, not {value!r}", field=field)
    return value


def _list(value: Any, field: str) -> Any:
    """Whatever gives one thing after the other, but no text, which would give its characters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{field} must be a list, not {value!r}", field=field)
    return value


def _to_enum(wrapper: Any, prefix: str, value: str, field: str) -> Any:
    try:
        return wrapper.Value(prefix + str(value).upper())
    except ValueError:
        known = ", ".join(name.removeprefix(prefix).lower() for name in wrapper.keys()[1:])
        raise InvalidArgument(f"{field} is {value!r}; it can be {known}", field=field) from None


# ---- what producers ask for ----


def priority_to_pb(value: JobPriority | int, field: str = "priority") -> common.JobPriority:
    """The wire's number."""
    try:
        return _TO_PRIORITY[JobPriority(value)]  # type: ignore[return-value]
    except ValueError:
        raise InvalidArgument(f"{field} is {value!r}; it can be 0 (LOW), 5 (NORMAL), 8 (HIGH) or 10 (CRITICAL)", field=field) from None


def payload_to_pb(payload: Payload) -> common.Payload:
    """A message."""
    return common.Payload(content_type=payload.content_type, json=payload.json, data=payload.data)


def retry_to_pb(policy: RetryPolicy, field: str = "retry") -> common.RetryPolicy:
    """A message."""
    policy = _of_kind(RetryPolicy, policy, field)
    message = common.RetryPolicy(max_attempts=_count(policy.max_attempts, f"{field}.max_attempts"))
    if policy.multiplier is not None:
        message.multiplier = _number(policy.multiplier, f"{field}.multiplier")
    if policy.backoff is not None:
        message.kind = _to_enum(common.BackoffKind, "BACKOFF_KIND_", policy.backoff, f"{field}.backoff")
    if policy.initial is not None:
        message.initial.CopyFrom(duration_to_pb(policy.initial, f"{field}.initial"))
    if policy.max is not None:
        message.max.CopyFrom(duration_to_pb(policy.max, f"{field}.max"))
    if policy.jitter is not None:
        message.jitter.CopyFrom(wrappers_pb2.DoubleValue(value=_number(policy.jitter, f"{field}.jitter")))
    delays = _list(policy.delays, f"{field}.delays")
    message.delays.extend(duration_to_pb(delay, f"{field}.delays[{i}]") for i, delay in enumerate(delays))
    return message


def _count(value: int | None, field: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InvalidArgument(f"{field} must be a number from 0 to {2**32 - 1}, not {value!r}", field=field)
    return value


def _unique_to_pb(unique: UniqueKey | str) -> common.UniqueKey:
    unique = UniqueKey(unique) if isinstance(unique, str) else _of_kind(UniqueKey, unique, "unique")
    message = common.UniqueKey(key=_text(unique.key, "unique.key"))
    message.scope = _to_enum(common.UniqueScope, "UNIQUE_SCOPE_", unique.scope, "unique.scope")
    message.rule = common.UNIQUE_RULE_RETURN_EXISTING if unique.return_existing else common.UNIQUE_RULE_REJECT
    if unique.period is not None:
        message.period.CopyFrom(duration_to_pb(unique.period, "unique.period"))
    return message


def _concurrency_to_pb(concurrency: ConcurrencyKey | str) -> common.ConcurrencyKey:
    if isinstance(concurrency, str):
        concurrency = ConcurrencyKey(concurrency)
    key = _of_kind(ConcurrencyKey, concurrency, "concurrency")
    return common.ConcurrencyKey(key=_text(key.key, "concurrency.key"), limit=_count(key.limit, "concurrency.limit"))


def _content_to_pb(spec: JobSpec, codec: Codec | None, message: jobs.JobSpec) -> None:
    """The payload, or the arguments, of which None is the same as none."""
    if spec.payload is not NO_PAYLOAD:
        if spec.args or spec.kwargs:
            raise InvalidArgument("give payload, or args and kwargs, not both", field="payload")
        payload = encode(spec.payload, codec)
    else:
        args, kwargs = _list(spec.args or (), "args"), _of_kind(Mapping, spec.kwargs or {}, "kwargs")
        payload = encode_call(args, kwargs, codec)
    if payload.json is not None:
        message.payload.json = _text(payload.json, "payload")
    elif payload.data is not None:
        message.payload.data = _of_kind(bytes, payload.data, "payload")
    if payload.content_type and not payload.is_empty:
        message.payload.content_type = _text(payload.content_type, "payload.content_type")


def _spans_to_pb(spec: JobSpec, message: jobs.JobSpec) -> None:
    if spec.delay is not None and spec.run_at is not None:
        raise InvalidArgument("give delay or run_at, not both", field="run_at")
    if spec.expires_in is not None and spec.expires_at is not None:
        raise InvalidArgument("give expires_in or expires_at, not both", field="expires_at")
    for name in ("delay", "expires_in", "total_timeout", "attempt_timeout", "retention"):
        value: Duration | None = getattr(spec, name)
        if value is not None:
            getattr(message, name).CopyFrom(duration_to_pb(value, name))
    if spec.run_at is not None:
        message.run_at.CopyFrom(time_to_pb(spec.run_at, "run_at"))
    if spec.expires_at is not None:
        message.expires_at.CopyFrom(time_to_pb(spec.expires_at, "expires_at"))


def id_to_pb(value: str | uuid.UUID) -> str:
    """The text of a UUID."""
    if isinstance(value, uuid.UUID):
        return str(value)
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise InvalidArgument(f"id is {value!r}, which is no UUID", field="id") from None


def spec_to_pb(spec: JobSpec, routes: Routes, codec: Codec | None, *, make_id: bool = True) -> jobs.JobSpec:
    """A message. With `make_id`, it has an id from now on, so that it can be sent again."""
    message = jobs.JobSpec(task=_text(spec.task, "task"))
    if spec.wants_previous_result:
        message.wants_previous_result = True
    if spec.id is not None:
        message.id = id_to_pb(spec.id)
    elif make_id:
        message.id = new_id()
    queue = spec.queue if spec.queue is not None else routes.queue_for(spec.task)
    if queue is not None:
        message.queue = _text(queue, "queue")
    if spec.priority is not None:
        message.priority = priority_to_pb(spec.priority)
    _content_to_pb(spec, codec, message)
    _spans_to_pb(spec, message)
    if spec.retry is not None:
        message.retry_policy.CopyFrom(retry_to_pb(spec.retry))
    if spec.labels:
        for name, value in _of_kind(Mapping, spec.labels, "labels").items():
            message.labels[_text(name, "labels")] = _text(value, "labels")
    if spec.unique is not None:
        message.unique_key.CopyFrom(_unique_to_pb(spec.unique))
    if spec.concurrency is not None:
        message.concurrency_key.CopyFrom(_concurrency_to_pb(spec.concurrency))
    if spec.traceparent:
        message.traceparent = _text(spec.traceparent, "traceparent")
    if spec.tracestate:
        message.tracestate = _text(spec.tracestate, "tracestate")
    return message


class Within:
    """Puts a path before the field at fault."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidArgument):
            error.field = f"{self._path}.{error.field}" if error.field else self._path


def filter_to_pb(filter: JobFilter | None) -> jobs.JobFilter:
    """A message."""
    if filter is None:
        return jobs.JobFilter()
    message = jobs.JobFilter(
        queues=_texts(filter.queues, "queues"),
        tasks=_texts(filter.tasks, "tasks"),
        states=[_to_enum(common.JobState, "JOB_STATE_", state, "states") for state in _texts(filter.states, "states")],
        priorities=[priority_to_pb(priority, "priorities") for priority in filter.priorities],
        labels=filter.labels,
        batch_id=filter.batch_id,
        chain_id=filter.chain_id,
        schedule_name=filter.schedule_name,
        ids=_texts(filter.ids, "ids"),
        error_fingerprint=filter.error_fingerprint,
    )
    if filter.created_after is not None:
        message.created_after.CopyFrom(time_to_pb(filter.created_after, "created_after"))
    if filter.created_before is not None:
        message.created_before.CopyFrom(time_to_pb(filter.created_before, "created_before"))
    return message


def _texts(values: Sequence[str], field: str) -> Sequence[str]:
    if isinstance(values, str):
        raise InvalidArgument(f"{field} is a list, not the single text {values!r}", field=field)
    return values


def timing_to_pb(
    cron: str | None,
    interval: Duration | None,
    time_zone: str = "",
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    jitter: Duration | None = None,
) -> schedules.ScheduleTiming:
    """A message."""
    if (cron is None) == (interval is None):
        raise InvalidArgument("give cron or interval, one of them", field="cron")
    message = schedules.ScheduleTiming(time_zone=time_zone)
    if cron is not None:
        message.cron = cron
    if interval is not None:
        message.interval.CopyFrom(duration_to_pb(interval, "interval"))
    if start_at is not None:
        message.start_at.CopyFrom(time_to_pb(start_at, "start_at"))
    if end_at is not None:
        message.end_at.CopyFrom(time_to_pb(end_at, "end_at"))
    if jitter is not None:
        message.jitter.CopyFrom(duration_to_pb(jitter, "jitter"))
    return message


def schedule_to_pb(spec: ScheduleSpec, routes: Routes, codec: Codec | None) -> schedules.ScheduleSpec:
    """A message."""
    message = schedules.ScheduleSpec(
        name=spec.name,
        timing=timing_to_pb(spec.cron, spec.interval, spec.time_zone, spec.start_at, spec.end_at, spec.jitter),
        job=spec_to_pb(spec.job, routes, codec, make_id=False),
        description=spec.description,
    )
    if spec.overlap is not None:
        message.overlap = _to_enum(schedules.ScheduleOverlap, "SCHEDULE_OVERLAP_", spec.overlap, "overlap")
    if spec.catch_up_window is not None:
        message.catch_up_window.CopyFrom(duration_to_pb(spec.catch_up_window, "catch_up_window"))
    return message


def settings_to_pb(settings: QueueSettings) -> queues.QueueSettings:
    """A message."""
    message = queues.QueueSettings()
    if settings.mode is not None:
        message.mode = _to_enum(queues.QueueMode, "QUEUE_MODE_", settings.mode, "mode")
    for name in ("max_length", "max_running", "rate_per_second", "rate_burst", "retention_count"):
        value = getattr(settings, name)
        if value is not None:
            getattr(message, name).value = value
    if settings.retry is not None:
        message.retry_policy.CopyFrom(retry_to_pb(settings.retry))
    for name in ("attempt_timeout", "retention", "retention_failed"):
        span = getattr(settings, name)
        if span is not None:
            getattr(message, name).CopyFrom(duration_to_pb(span, name))
    return message


# ---- what the service tells ----


def _time(message: Message, name: str) -> datetime | None:
    return time_from_pb(getattr(message, name)) if message.HasField(name) else None


def _delta(message: Message, name: str) -> timedelta | None:
    return delta_from_pb(getattr(message, name)) if message.HasField(name) else None


def payload_from_pb(message: common.Payload) -> Payload:
    """Our payload."""
    kind = message.WhichOneof("content")
    return Payload(
        json=message.json if kind == "json" else None, data=message.data if kind == "data" else None, content_type=message.content_type
    )


def _payload(message: Message, name: str) -> Payload | None:
    return payload_from_pb(getattr(message, name)) if message.HasField(name) else None


def _error(message: Message, name: str = "error") -> JobError | None:
    if not message.HasField(name):
        return None
    error: jobs.JobError = getattr(message, name)
    return JobError(type=error.type, message=error.message, trace=error.trace, fingerprint=error.fingerprint)


def _attempt(message: jobs.Attempt) -> Attempt:
    return Attempt(
        delivery=message.delivery,
        session_id=message.session_id,
        started_at=_time(message, "started_at"),
        finished_at=_time(message, "finished_at"),
        outcome=_from_enum(AttemptOutcome, jobs.AttemptOutcome, message.outcome),
        error=_error(message),
    )


def job_from_pb(message: jobs.Job, codec: Codec | None) -> Job:
    """Our job."""
    progress = Progress(message.progress.fraction, message.progress.message) if message.HasField("progress") else None
    return Job(
        id=message.id,
        task=message.task,
        queue=message.queue,
        priority=priority_from_pb(message.priority),
        state=_from_enum(JobState, common.JobState, message.state) or JobState.PENDING,
        waiting_reason=_from_enum(WaitingReason, common.WaitingReason, message.waiting_reason),
        cancel_requested=message.cancel_requested,
        generation=message.generation,
        attempts=message.attempts,
        max_attempts=message.max_attempts,
        deliveries=message.deliveries,
        lost_count=message.lost_count,
        created_at=_time(message, "created_at"),
        run_at=_time(message, "run_at"),
        expires_at=_time(message, "expires_at"),
        deadline=_time(message, "deadline"),
        started_at=_time(message, "started_at"),
        finished_at=_time(message, "finished_at"),
        progress=progress,
        payload=_payload(message, "payload"),
        result_payload=_payload(message, "result"),
        result_omitted_reason=message.result_omitted_reason,
        error=_error(message),
        history=tuple(_attempt(attempt) for attempt in message.history),
        labels=dict(message.labels),
        unique_key=message.unique_key,
        concurrency_key=message.concurrency_key,
        chain_id=message.chain_id,
        chain_index=message.chain_index,
        batch_id=message.batch_id,
        schedule_name=message.schedule_name,
        session_id=message.session_id,
        codec=codec,
    )


def priority_from_pb(number: int) -> JobPriority:
    """Ours; NORMAL for what a later version may say."""
    return _FROM_PRIORITY.get(number, JobPriority.NORMAL)


def log_from_pb(message: common.LogLine) -> LogLine:
    """Our line."""
    return LogLine(datetime.fromtimestamp(message.time_unix_ms / 1000, UTC), message.text, message.delivery)


def chain_from_pb(message: chains.Chain, codec: Codec | None, *, existing: bool = False) -> Chain:
    """Our chain."""
    return Chain(
        id=message.id,
        state=_from_enum(ChainState, chains.ChainState, message.state) or ChainState.RUNNING,
        job_ids=tuple(message.job_ids),
        succeeded=message.succeeded,
        current_step=message.current_step,
        error=_error(message),
        on_failure_job_id=message.on_failure_job_id,
        created_at=_time(message, "created_at"),
        finished_at=_time(message, "finished_at"),
        result_payload=_payload(message, "result"),
        existing=existing,
        codec=codec,
    )


def batch_from_pb(message: batches.Batch, *, existing: bool = False) -> Batch:
    """Our batch."""
    return Batch(
        id=message.id,
        state=_from_enum(BatchState, batches.BatchState, message.state) or BatchState.OPEN,
        description=message.description,
        total=message.total,
        pending=message.pending,
        succeeded=message.succeeded,
        failed=message.failed,
        cancelled=message.cancelled,
        expired=message.expired,
        last_chunk=message.last_chunk,
        created_at=_time(message, "created_at"),
        finished_at=_time(message, "finished_at"),
        on_success_job_id=message.on_success_job_id,
        on_complete_job_id=message.on_complete_job_id,
        existing=existing,
    )


def schedule_from_pb(message: schedules.Schedule, *, existing: bool = False) -> Schedule:
    """Our schedule."""
    spec = message.spec
    when = spec.timing.WhichOneof("when")
    return Schedule(
        name=spec.name,
        task=spec.job.task,
        queue=spec.job.queue or "default",
        cron=spec.timing.cron if when == "cron" else None,
        interval=delta_from_pb(spec.timing.interval) if when == "interval" else None,
        time_zone=spec.timing.time_zone or "UTC",
        overlap=_from_enum(ScheduleOverlap, schedules.ScheduleOverlap, spec.overlap) or ScheduleOverlap.SKIP,
        description=spec.description,
        owner=message.owner,
        paused=message.paused,
        next_run_at=_time(message, "next_run_at"),
        last_run_at=_time(message, "last_run_at"),
        last_job_id=message.last_job_id,
        last_lateness=_delta(message, "last_lateness"),
        created_at=_time(message, "created_at"),
        runs=message.runs,
        skipped=message.skipped,
        existing=existing,
    )


def _retry_from_pb(message: common.RetryPolicy) -> RetryPolicy:
    names = {1: "exponential", 2: "linear", 3: "constant", 4: "list"}
    return RetryPolicy(
        max_attempts=message.max_attempts or None,
        backoff=names.get(message.kind),  # type: ignore[arg-type]
        initial=_delta(message, "initial"),
        multiplier=message.multiplier or None,
        max=_delta(message, "max"),
        jitter=message.jitter.value if message.HasField("jitter") else None,
        delays=tuple(delta_from_pb(delay) for delay in message.delays),
    )


def queue_from_pb(message: queues.Queue) -> Queue:
    """Our queue."""
    settings = message.settings

    def number(name: str) -> Any:
        return getattr(settings, name).value if settings.HasField(name) else None

    return Queue(
        name=message.name,
        paused=message.paused,
        counts=QueueCounts(**{name: getattr(message.counts, name) for name in QueueCounts.__slots__}),
        settings=QueueSettings(
            mode="weighted" if settings.mode == queues.QUEUE_MODE_WEIGHTED else "strict",
            max_length=number("max_length"),
            max_running=number("max_running"),
            rate_per_second=number("rate_per_second"),
            rate_burst=number("rate_burst"),
            retry=_retry_from_pb(settings.retry_policy) if settings.HasField("retry_policy") else None,
            attempt_timeout=_delta(settings, "attempt_timeout"),
            retention=_delta(settings, "retention"),
            retention_failed=_delta(settings, "retention_failed"),
            retention_count=number("retention_count"),
        ),
        oldest_ready_at=_time(message, "oldest_ready_at"),
        oldest_age=_delta(message, "oldest_age"),
        workers=message.workers,
        created_per_second=message.created_per_second,
        finished_per_second=message.finished_per_second,
    )


def worker_from_pb(message: workers.Worker) -> WorkerInfo:
    """Our worker."""
    states: Mapping[int, Any] = {1: "active", 2: "quiet"}
    return WorkerInfo(
        session_id=message.session_id,
        state=states.get(message.state, "disconnected"),
        queues={queue.name: queue.weight or 1 for queue in message.queues},
        tasks=tuple(message.tasks),
        concurrency=message.concurrency,
        running=message.running,
        hostname=message.hostname,
        pid=message.pid,
        labels=dict(message.labels),
        sdk=message.sdk,
        transport=message.transport,
        registered_at=_time(message, "registered_at"),
        last_seen_at=_time(message, "last_seen_at"),
    )
