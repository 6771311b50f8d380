# SPDX-License-Identifier: Apache-2.0
"""The words of Millrace as Python values: what producers ask for, and what the service tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack
from uuid import UUID

from millrace._times import Duration
from millrace.payload import Codec, Payload, decode

__all__ = [
    "NO_PAYLOAD",
    "Attempt",
    "AttemptOutcome",
    "Backoff",
    "Batch",
    "BatchState",
    "Chain",
    "ChainState",
    "ConcurrencyKey",
    "CreateOutcome",
    "Created",
    "Declared",
    "Duration",
    "Job",
    "JobError",
    "JobEvent",
    "JobFields",
    "JobFilter",
    "JobPriority",
    "JobSpec",
    "JobState",
    "LogLine",
    "Progress",
    "Queue",
    "QueueCounts",
    "QueueSettings",
    "RetryPolicy",
    "Schedule",
    "ScheduleOverlap",
    "ScheduleSpec",
    "ServerInfo",
    "UniqueKey",
    "UniqueScope",
    "WaitingReason",
    "WorkerInfo",
]


class JobPriority(IntEnum):
    """How urgent a job is."""

    LOW = 0
    NORMAL = 5
    HIGH = 8
    CRITICAL = 10


class JobState(StrEnum):
    """Where a job is in its life; docs/jobs.md has the diagram."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """The job has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)


class WaitingReason(StrEnum):
    """Why a job that has not ended is not running."""

    NO_WORKER_FOR_QUEUE = "no_worker_for_queue"
    NO_WORKER_FOR_TASK = "no_worker_for_task"
    QUEUE_PAUSED = "queue_paused"
    QUEUE_LIMIT = "queue_limit"
    RATE_LIMITED = "rate_limited"
    CONCURRENCY_KEY = "concurrency_key"
    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    NO_FREE_SLOT = "no_free_slot"


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SNOOZED = "snoozed"
    RELEASED = "released"
    LOST = "lost"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UNKNOWN_TASK = "unknown_task"


class ChainState(StrEnum):
    """How a chain stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """The chain has ended."""
        return self is not ChainState.RUNNING


class BatchState(StrEnum):
    """How a batch stands."""

    OPEN = "open"
    SEALED = "sealed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """The batch has ended."""
        return self not in (BatchState.OPEN, BatchState.SEALED)


class ScheduleOverlap(StrEnum):
    """What happens at a time when the job made before has not ended."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    ALLOW = "allow"


Backoff: TypeAlias = Literal["exponential", "linear", "constant", "list"]
UniqueScope: TypeAlias = Literal["while_waiting", "until_finished", "period"]


class _NoPayload:
    """There is no whole payload: arguments make it."""

    def __repr__(self) -> str:
        return "NO_PAYLOAD"

    def __reduce__(self) -> str:
        return "NO_PAYLOAD"


NO_PAYLOAD: Final = _NoPayload()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon a failed job is tried again; what is None follows the worker, the queue, the server."""

    max_attempts: int | None = None
    """Attempts in all, 1 to 1,000."""
    backoff: Backoff | None = None
    initial: Duration | None = None
    """Delay before the second attempt."""
    multiplier: float | None = None
    """Growth of an exponential back-off."""
    max: Duration | None = None
    """No delay is longer."""
    jitter: float | None = None
    """Each delay is varied by up to this fraction either way."""
    delays: Sequence[Duration] = ()
    """The delays of a list."""


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """At most one job in a queue holds a unique key."""

    key: str
    scope: UniqueScope = "until_finished"
    return_existing: bool = False
    """Answer a second create with the job that is there; otherwise it is refused with JobExists."""
    period: Duration | None = None
    """Of scope "period"."""


@dataclass(frozen=True, slots=True)
class ConcurrencyKey:
    """At most `limit` jobs of a queue with the same key run at a time."""

    key: str
    limit: int = 1


class JobFields(TypedDict, total=False):
    """The fields of a JobSpec, as keywords."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    payload: Any
    id: str | UUID | None
    queue: str | None
    priority: JobPriority | int | None
    delay: Duration | None
    run_at: datetime | None
    expires_in: Duration | None
    expires_at: datetime | None
    total_timeout: Duration | None
    attempt_timeout: Duration | None
    retry: RetryPolicy | None
    labels: Mapping[str, str]
    unique: UniqueKey | str | None
    concurrency: ConcurrencyKey | str | None
    retention: Duration | None
    traceparent: str | None
    tracestate: str | None
    wants_previous_result: bool


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One piece of work as a producer asks for it. What is None is the server's default, or the routing rules'."""

    task: str
    """The handler's name."""
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    payload: Any = NO_PAYLOAD
    """The whole payload instead of arguments: bytes, any JSON value, or a Payload."""
    id: str | UUID | None = None
    """Made by the client when None, so that sending again makes no second job."""
    queue: str | None = None
    priority: JobPriority | int | None = None
    delay: Duration | None = None
    """Start this long after the create; a chain step: after the step before."""
    run_at: datetime | None = None
    """Start at this time."""
    expires_in: Duration | None = None
    """Not started by then: EXPIRED."""
    expires_at: datetime | None = None
    total_timeout: Duration | None = None
    """From create to end, all attempts and waits included."""
    attempt_timeout: Duration | None = None
    """One attempt; 0 = none."""
    retry: RetryPolicy | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    unique: UniqueKey | str | None = None
    concurrency: ConcurrencyKey | str | None = None
    retention: Duration | None = None
    """How long the job is kept once it has ended."""
    traceparent: str | None = None
    tracestate: str | None = None
    wants_previous_result: bool = False
    """Chain steps: hand the result of the step before to the handler."""

    def replace(self, **fields: Unpack[JobFields]) -> JobSpec:
        """The same job with other fields."""
        return replace(self, **fields)


@dataclass(frozen=True, slots=True)
class Created:
    """A create that was acknowledged: the job is durable."""

    id: str
    existing: bool = False
    """It was there already: sent twice, or the holder of the unique key."""


@dataclass(frozen=True, slots=True)
class CreateOutcome:
    """What became of one create among many: `error` is None when it is there."""

    id: str
    existing: bool = False
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt or a job failed."""

    type: str
    message: str
    trace: str = ""
    fingerprint: str = ""
    """The same fault has the same one."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One past delivery."""

    delivery: int
    session_id: str
    started_at: datetime | None
    finished_at: datetime | None
    outcome: AttemptOutcome | None
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What the handler says of its progress: `fraction` from 0 to 1."""

    fraction: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's log."""

    time: datetime
    text: str
    delivery: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when the server answered."""

    id: str
    task: str
    queue: str
    priority: JobPriority
    state: JobState
    waiting_reason: WaitingReason | None = None
    cancel_requested: bool = False
    generation: int = 1
    attempts: int = 0
    max_attempts: int = 0
    deliveries: int = 0
    lost_count: int = 0
    created_at: datetime | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    deadline: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    payload: Payload | None = None
    result_payload: Payload | None = None
    """What the handler returned, as it was sent; `result` is the value."""
    result_omitted_reason: str = ""
    error: JobError | None = None
    history: tuple[Attempt, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    unique_key: str = ""
    concurrency_key: str = ""
    chain_id: str = ""
    chain_index: int = 0
    batch_id: str = ""
    schedule_name: str = ""
    session_id: str = ""
    codec: Codec | None = field(default=None, repr=False, compare=False)

    @property
    def result(self) -> Any:
        """The value that the handler returned; None when there is none (yet). Lists and watches leave it out unless asked."""
        return decode(self.result_payload, self.codec)

    @property
    def is_terminal(self) -> bool:
        """The job has ended."""
        return self.state.is_terminal


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What a watch sees. Without a job: all states at the start have been sent, changes follow."""

    job: Job | None
    deleted: bool = False
    """The job was removed."""

    @property
    def initial_done(self) -> bool:
        """All states at the start have been sent."""
        return self.job is None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs: all conditions hold, within a sequence any."""

    queues: Sequence[str] = ()
    tasks: Sequence[str] = ()
    states: Sequence[JobState | str] = ()
    priorities: Sequence[JobPriority | int] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    batch_id: str = ""
    chain_id: str = ""
    schedule_name: str = ""
    ids: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    error_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Steps that run one after the other."""

    id: str
    state: ChainState
    job_ids: tuple[str, ...]
    succeeded: int = 0
    current_step: int = 0
    error: JobError | None = None
    on_failure_job_id: str = ""
    created_at: datetime | None = None
    finished_at: datetime | None = None
    result_payload: Payload | None = None
    existing: bool = False
    codec: Codec | None = field(default=None, repr=False, compare=False)

    @property
    def result(self) -> Any:
        """What the last step returned, once it has succeeded."""
        return decode(self.result_payload, self.codec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Many jobs that are counted together."""

    id: str
    state: BatchState
    description: str = ""
    total: int = 0
    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    last_chunk: int = 0
    created_at: datetime | None = None
    finished_at: datetime | None = None
    on_success_job_id: str = ""
    on_complete_job_id: str = ""
    existing: bool = False
    outcomes: tuple[CreateOutcome, ...] = ()
    """Of the items, in order; only in the answer of a create. See there what is told of items that had been sent before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """A job that is made again and again, by `cron` or every `interval`."""

    name: str
    job: JobSpec
    cron: str | None = None
    interval: Duration | None = None
    time_zone: str = ""
    """IANA name, for cron; UTC by default."""
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: Duration | None = None
    overlap: ScheduleOverlap | str | None = None
    catch_up_window: Duration | None = None
    """A time missed is made up for if not older than this; 0 = never, None = however old."""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it was when the server answered."""

    name: str
    task: str
    queue: str
    cron: str | None
    interval: timedelta | None
    time_zone: str
    overlap: ScheduleOverlap
    description: str = ""
    owner: str = ""
    paused: bool = False
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    last_job_id: str = ""
    last_lateness: timedelta | None = None
    created_at: datetime | None = None
    runs: int = 0
    skipped: int = 0
    existing: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """What a declaration of schedules changed."""

    created: int
    updated: int
    unchanged: int
    deleted: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Jobs by state."""

    pending: int = 0
    scheduled: int = 0
    retrying: int = 0
    blocked: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What can be set for a queue; None: stays, or the server's default."""

    mode: Literal["strict", "weighted"] | None = None
    max_length: int | None = None
    max_running: int | None = None
    rate_per_second: float | None = None
    rate_burst: int | None = None
    retry: RetryPolicy | None = None
    attempt_timeout: Duration | None = None
    retention: Duration | None = None
    retention_failed: Duration | None = None
    retention_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as it was when the server answered."""

    name: str
    paused: bool
    counts: QueueCounts
    settings: QueueSettings
    oldest_ready_at: datetime | None = None
    oldest_age: timedelta | None = None
    workers: int = 0
    created_per_second: float = 0.0
    finished_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker process that is attached."""

    session_id: str
    state: Literal["active", "quiet", "disconnected"]
    queues: Mapping[str, int]
    tasks: tuple[str, ...]
    concurrency: int
    running: int
    hostname: str
    pid: int
    labels: Mapping[str, str]
    sdk: str
    transport: str
    registered_at: datetime | None
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """About the server itself."""

    version: str
    durability: str
    started_at: datetime | None
    store_backend: str
    queues: int
    sessions: int
    jobs_waiting: int
    jobs_running: int
    now: datetime | None
