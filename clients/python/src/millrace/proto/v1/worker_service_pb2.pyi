# SPDX-License-Identifier: Apache-2.0
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.proto.v1 import common_pb2 as _common_pb2
from millrace.proto.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CommandKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMAND_KIND_UNSPECIFIED: _ClassVar[CommandKind]
    COMMAND_KIND_CANCEL: _ClassVar[CommandKind]
    COMMAND_KIND_TERMINATE: _ClassVar[CommandKind]
    COMMAND_KIND_LOST: _ClassVar[CommandKind]
    COMMAND_KIND_QUIET: _ClassVar[CommandKind]
    COMMAND_KIND_DRAIN: _ClassVar[CommandKind]

class ReleaseReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELEASE_REASON_UNSPECIFIED: _ClassVar[ReleaseReason]
    RELEASE_REASON_STOPPING: _ClassVar[ReleaseReason]
    RELEASE_REASON_UNKNOWN_TASK: _ClassVar[ReleaseReason]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_ACTIVE: _ClassVar[WorkerState]
    WORKER_STATE_QUIET: _ClassVar[WorkerState]
    WORKER_STATE_DISCONNECTED: _ClassVar[WorkerState]
COMMAND_KIND_UNSPECIFIED: CommandKind
COMMAND_KIND_CANCEL: CommandKind
COMMAND_KIND_TERMINATE: CommandKind
COMMAND_KIND_LOST: CommandKind
COMMAND_KIND_QUIET: CommandKind
COMMAND_KIND_DRAIN: CommandKind
RELEASE_REASON_UNSPECIFIED: ReleaseReason
RELEASE_REASON_STOPPING: ReleaseReason
RELEASE_REASON_UNKNOWN_TASK: ReleaseReason
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_ACTIVE: WorkerState
WORKER_STATE_QUIET: WorkerState
WORKER_STATE_DISCONNECTED: WorkerState

class WorkerQueue(_message.Message):
    __slots__ = ("name", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: int
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class WorkerTask(_message.Message):
    __slots__ = ("name", "retry_policy", "attempt_timeout")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RETRY_POLICY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    name: str
    retry_policy: _common_pb2.RetryPolicy
    attempt_timeout: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., retry_policy: _Optional[_Union[_common_pb2.RetryPolicy, _Mapping]] = ..., attempt_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WorkerLimits(_message.Message):
    __slots__ = ("result_bytes_max", "reports_bytes_max", "fragment_bytes_max", "log_line_bytes_max", "trace_bytes_max")
    RESULT_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    REPORTS_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    LOG_LINE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    TRACE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    result_bytes_max: int
    reports_bytes_max: int
    fragment_bytes_max: int
    log_line_bytes_max: int
    trace_bytes_max: int
    def __init__(self, result_bytes_max: _Optional[int] = ..., reports_bytes_max: _Optional[int] = ..., fragment_bytes_max: _Optional[int] = ..., log_line_bytes_max: _Optional[int] = ..., trace_bytes_max: _Optional[int] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("queues", "tasks", "concurrency", "prefetch", "hostname", "pid", "labels", "sdk", "resume_session_id", "resume_session_token")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    RESUME_SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[WorkerQueue]
    tasks: _containers.RepeatedCompositeFieldContainer[WorkerTask]
    concurrency: int
    prefetch: int
    hostname: str
    pid: int
    labels: _containers.ScalarMap[str, str]
    sdk: str
    resume_session_id: str
    resume_session_token: str
    def __init__(self, queues: _Optional[_Iterable[_Union[WorkerQueue, _Mapping]]] = ..., tasks: _Optional[_Iterable[_Union[WorkerTask, _Mapping]]] = ..., concurrency: _Optional[int] = ..., prefetch: _Optional[int] = ..., hostname: _Optional[str] = ..., pid: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., sdk: _Optional[str] = ..., resume_session_id: _Optional[str] = ..., resume_session_token: _Optional[str] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("session_id", "session_token", "resumed", "scheme", "host", "port", "jobs_path", "reports_path", "heartbeat_interval", "silence_timeout", "session_timeout", "limits")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    JOBS_PATH_FIELD_NUMBER: _ClassVar[int]
    REPORTS_PATH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SILENCE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    SESSION_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    session_token: str
    resumed: bool
    scheme: str
    host: str
    port: int
    jobs_path: str
    reports_path: str
    heartbeat_interval: _duration_pb2.Duration
    silence_timeout: _duration_pb2.Duration
    session_timeout: _duration_pb2.Duration
    limits: WorkerLimits
    def __init__(self, session_id: _Optional[str] = ..., session_token: _Optional[str] = ..., resumed: bool = ..., scheme: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., jobs_path: _Optional[str] = ..., reports_path: _Optional[str] = ..., heartbeat_interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., silence_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., session_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., limits: _Optional[_Union[WorkerLimits, _Mapping]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("job_id", "delivery", "task", "queue", "priority", "payload", "attempt", "max_attempts", "attempt_timeout", "deadline", "created_at", "traceparent", "tracestate", "previous_result", "labels", "chain_id", "batch_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_RESULT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    delivery: int
    task: str
    queue: str
    priority: _common_pb2.JobPriority
    payload: _common_pb2.Payload
    attempt: int
    max_attempts: int
    attempt_timeout: _duration_pb2.Duration
    deadline: _timestamp_pb2.Timestamp
    created_at: _timestamp_pb2.Timestamp
    traceparent: str
    tracestate: str
    previous_result: _common_pb2.Payload
    labels: _containers.ScalarMap[str, str]
    chain_id: str
    batch_id: str
    def __init__(self, job_id: _Optional[str] = ..., delivery: _Optional[int] = ..., task: _Optional[str] = ..., queue: _Optional[str] = ..., priority: _Optional[_Union[_common_pb2.JobPriority, str]] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., attempt: _Optional[int] = ..., max_attempts: _Optional[int] = ..., attempt_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., deadline: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., previous_result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., chain_id: _Optional[str] = ..., batch_id: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("kind", "job_id", "delivery")
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    kind: CommandKind
    job_id: str
    delivery: int
    def __init__(self, kind: _Optional[_Union[CommandKind, str]] = ..., job_id: _Optional[str] = ..., delivery: _Optional[int] = ...) -> None: ...

class Deliveries(_message.Message):
    __slots__ = ("delivery_seq", "deliveries", "commands", "accepted_report_seq", "ping")
    DELIVERY_SEQ_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_REPORT_SEQ_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    delivery_seq: int
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    accepted_report_seq: int
    ping: int
    def __init__(self, delivery_seq: _Optional[int] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., accepted_report_seq: _Optional[int] = ..., ping: _Optional[int] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("started_at",)
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    started_at: _timestamp_pb2.Timestamp
    def __init__(self, started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Succeeded(_message.Message):
    __slots__ = ("result", "result_omitted_reason")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RESULT_OMITTED_REASON_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.Payload
    result_omitted_reason: str
    def __init__(self, result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., result_omitted_reason: _Optional[str] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("error", "permanent", "retry_after", "max_attempts", "cancelled")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PERMANENT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    error: _job_pb2.JobError
    permanent: bool
    retry_after: _duration_pb2.Duration
    max_attempts: int
    cancelled: bool
    def __init__(self, error: _Optional[_Union[_job_pb2.JobError, _Mapping]] = ..., permanent: bool = ..., retry_after: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_attempts: _Optional[int] = ..., cancelled: bool = ...) -> None: ...

class Snoozed(_message.Message):
    __slots__ = ("delay",)
    DELAY_FIELD_NUMBER: _ClassVar[int]
    delay: _duration_pb2.Duration
    def __init__(self, delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: ReleaseReason
    def __init__(self, reason: _Optional[_Union[ReleaseReason, str]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("job_id", "delivery", "started_at", "started", "succeeded", "failed", "snoozed", "released", "progress", "log")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SNOOZED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    delivery: int
    started_at: _timestamp_pb2.Timestamp
    started: Started
    succeeded: Succeeded
    failed: Failed
    snoozed: Snoozed
    released: Released
    progress: _job_pb2.Progress
    log: LogLines
    def __init__(self, job_id: _Optional[str] = ..., delivery: _Optional[int] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., succeeded: _Optional[_Union[Succeeded, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., snoozed: _Optional[_Union[Snoozed, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., progress: _Optional[_Union[_job_pb2.Progress, _Mapping]] = ..., log: _Optional[_Union[LogLines, _Mapping]] = ...) -> None: ...

class LogLines(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[_common_pb2.LogLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[_common_pb2.LogLine, _Mapping]]] = ...) -> None: ...

class HeldDelivery(_message.Message):
    __slots__ = ("job_id", "delivery")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    delivery: int
    def __init__(self, job_id: _Optional[str] = ..., delivery: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("received_up_to", "held", "ping", "free_slots")
    RECEIVED_UP_TO_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    FREE_SLOTS_FIELD_NUMBER: _ClassVar[int]
    received_up_to: int
    held: _containers.RepeatedCompositeFieldContainer[HeldDelivery]
    ping: int
    free_slots: int
    def __init__(self, received_up_to: _Optional[int] = ..., held: _Optional[_Iterable[_Union[HeldDelivery, _Mapping]]] = ..., ping: _Optional[int] = ..., free_slots: _Optional[int] = ...) -> None: ...

class Reports(_message.Message):
    __slots__ = ("report_seq", "reports", "heartbeat")
    REPORT_SEQ_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    report_seq: int
    reports: _containers.RepeatedCompositeFieldContainer[Report]
    heartbeat: Heartbeat
    def __init__(self, report_seq: _Optional[int] = ..., reports: _Optional[_Iterable[_Union[Report, _Mapping]]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class AttachHello(_message.Message):
    __slots__ = ("session_id", "session_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    session_token: str
    def __init__(self, session_id: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("hello", "reports")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    hello: AttachHello
    reports: Reports
    def __init__(self, hello: _Optional[_Union[AttachHello, _Mapping]] = ..., reports: _Optional[_Union[Reports, _Mapping]] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("deliveries",)
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    deliveries: Deliveries
    def __init__(self, deliveries: _Optional[_Union[Deliveries, _Mapping]] = ...) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("session_id", "session_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    session_token: str
    def __init__(self, session_id: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...

class DeregisterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Worker(_message.Message):
    __slots__ = ("session_id", "state", "queues", "tasks", "concurrency", "running", "hostname", "pid", "labels", "sdk", "registered_at", "last_seen_at", "transport")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    state: WorkerState
    queues: _containers.RepeatedCompositeFieldContainer[WorkerQueue]
    tasks: _containers.RepeatedScalarFieldContainer[str]
    concurrency: int
    running: int
    hostname: str
    pid: int
    labels: _containers.ScalarMap[str, str]
    sdk: str
    registered_at: _timestamp_pb2.Timestamp
    last_seen_at: _timestamp_pb2.Timestamp
    transport: str
    def __init__(self, session_id: _Optional[str] = ..., state: _Optional[_Union[WorkerState, str]] = ..., queues: _Optional[_Iterable[_Union[WorkerQueue, _Mapping]]] = ..., tasks: _Optional[_Iterable[str]] = ..., concurrency: _Optional[int] = ..., running: _Optional[int] = ..., hostname: _Optional[str] = ..., pid: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., sdk: _Optional[str] = ..., registered_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., transport: _Optional[str] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "queue")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    queue: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., queue: _Optional[str] = ...) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers", "next_page_token")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    next_page_token: str
    def __init__(self, workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class QuietWorkerRequest(_message.Message):
    __slots__ = ("session_id", "drain")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    drain: bool
    def __init__(self, session_id: _Optional[str] = ..., drain: bool = ...) -> None: ...

class QuietWorkerResponse(_message.Message):
    __slots__ = ("worker",)
    WORKER_FIELD_NUMBER: _ClassVar[int]
    worker: Worker
    def __init__(self, worker: _Optional[_Union[Worker, _Mapping]] = ...) -> None: ...
