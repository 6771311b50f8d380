# SPDX-License-Identifier: Apache-2.0
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobPriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_PRIORITY_UNSPECIFIED: _ClassVar[JobPriority]
    JOB_PRIORITY_LOW: _ClassVar[JobPriority]
    JOB_PRIORITY_NORMAL: _ClassVar[JobPriority]
    JOB_PRIORITY_HIGH: _ClassVar[JobPriority]
    JOB_PRIORITY_CRITICAL: _ClassVar[JobPriority]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_SCHEDULED: _ClassVar[JobState]
    JOB_STATE_PENDING: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_RETRYING: _ClassVar[JobState]
    JOB_STATE_BLOCKED: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_EXPIRED: _ClassVar[JobState]

class WaitingReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAITING_REASON_UNSPECIFIED: _ClassVar[WaitingReason]
    WAITING_REASON_NO_WORKER_FOR_QUEUE: _ClassVar[WaitingReason]
    WAITING_REASON_NO_WORKER_FOR_TASK: _ClassVar[WaitingReason]
    WAITING_REASON_QUEUE_PAUSED: _ClassVar[WaitingReason]
    WAITING_REASON_QUEUE_LIMIT: _ClassVar[WaitingReason]
    WAITING_REASON_RATE_LIMITED: _ClassVar[WaitingReason]
    WAITING_REASON_CONCURRENCY_KEY: _ClassVar[WaitingReason]
    WAITING_REASON_BLOCKED: _ClassVar[WaitingReason]
    WAITING_REASON_SCHEDULED: _ClassVar[WaitingReason]
    WAITING_REASON_NO_FREE_SLOT: _ClassVar[WaitingReason]

class BackoffKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BACKOFF_KIND_UNSPECIFIED: _ClassVar[BackoffKind]
    BACKOFF_KIND_EXPONENTIAL: _ClassVar[BackoffKind]
    BACKOFF_KIND_LINEAR: _ClassVar[BackoffKind]
    BACKOFF_KIND_CONSTANT: _ClassVar[BackoffKind]
    BACKOFF_KIND_LIST: _ClassVar[BackoffKind]

class UniqueScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIQUE_SCOPE_UNSPECIFIED: _ClassVar[UniqueScope]
    UNIQUE_SCOPE_WHILE_WAITING: _ClassVar[UniqueScope]
    UNIQUE_SCOPE_UNTIL_FINISHED: _ClassVar[UniqueScope]
    UNIQUE_SCOPE_PERIOD: _ClassVar[UniqueScope]

class UniqueRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIQUE_RULE_UNSPECIFIED: _ClassVar[UniqueRule]
    UNIQUE_RULE_REJECT: _ClassVar[UniqueRule]
    UNIQUE_RULE_RETURN_EXISTING: _ClassVar[UniqueRule]

class View(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIEW_UNSPECIFIED: _ClassVar[View]
    VIEW_BASIC: _ClassVar[View]
    VIEW_FULL: _ClassVar[View]
JOB_PRIORITY_UNSPECIFIED: JobPriority
JOB_PRIORITY_LOW: JobPriority
JOB_PRIORITY_NORMAL: JobPriority
JOB_PRIORITY_HIGH: JobPriority
JOB_PRIORITY_CRITICAL: JobPriority
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_SCHEDULED: JobState
JOB_STATE_PENDING: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_RETRYING: JobState
JOB_STATE_BLOCKED: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_EXPIRED: JobState
WAITING_REASON_UNSPECIFIED: WaitingReason
WAITING_REASON_NO_WORKER_FOR_QUEUE: WaitingReason
WAITING_REASON_NO_WORKER_FOR_TASK: WaitingReason
WAITING_REASON_QUEUE_PAUSED: WaitingReason
WAITING_REASON_QUEUE_LIMIT: WaitingReason
WAITING_REASON_RATE_LIMITED: WaitingReason
WAITING_REASON_CONCURRENCY_KEY: WaitingReason
WAITING_REASON_BLOCKED: WaitingReason
WAITING_REASON_SCHEDULED: WaitingReason
WAITING_REASON_NO_FREE_SLOT: WaitingReason
BACKOFF_KIND_UNSPECIFIED: BackoffKind
BACKOFF_KIND_EXPONENTIAL: BackoffKind
BACKOFF_KIND_LINEAR: BackoffKind
BACKOFF_KIND_CONSTANT: BackoffKind
BACKOFF_KIND_LIST: BackoffKind
UNIQUE_SCOPE_UNSPECIFIED: UniqueScope
UNIQUE_SCOPE_WHILE_WAITING: UniqueScope
UNIQUE_SCOPE_UNTIL_FINISHED: UniqueScope
UNIQUE_SCOPE_PERIOD: UniqueScope
UNIQUE_RULE_UNSPECIFIED: UniqueRule
UNIQUE_RULE_REJECT: UniqueRule
UNIQUE_RULE_RETURN_EXISTING: UniqueRule
VIEW_UNSPECIFIED: View
VIEW_BASIC: View
VIEW_FULL: View

class Payload(_message.Message):
    __slots__ = ("content_type", "json", "data")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    json: str
    data: bytes
    def __init__(self, content_type: _Optional[str] = ..., json: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("max_attempts", "kind", "initial", "multiplier", "max", "jitter", "delays")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    DELAYS_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    kind: BackoffKind
    initial: _duration_pb2.Duration
    multiplier: float
    max: _duration_pb2.Duration
    jitter: _wrappers_pb2.DoubleValue
    delays: _containers.RepeatedCompositeFieldContainer[_duration_pb2.Duration]
    def __init__(self, max_attempts: _Optional[int] = ..., kind: _Optional[_Union[BackoffKind, str]] = ..., initial: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., multiplier: _Optional[float] = ..., max: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., jitter: _Optional[_Union[_wrappers_pb2.DoubleValue, _Mapping]] = ..., delays: _Optional[_Iterable[_Union[_duration_pb2.Duration, _Mapping]]] = ...) -> None: ...

class UniqueKey(_message.Message):
    __slots__ = ("key", "scope", "rule", "period")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    key: str
    scope: UniqueScope
    rule: UniqueRule
    period: _duration_pb2.Duration
    def __init__(self, key: _Optional[str] = ..., scope: _Optional[_Union[UniqueScope, str]] = ..., rule: _Optional[_Union[UniqueRule, str]] = ..., period: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ConcurrencyKey(_message.Message):
    __slots__ = ("key", "limit")
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    key: str
    limit: int
    def __init__(self, key: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("time_unix_ms", "text", "delivery")
    TIME_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    time_unix_ms: int
    text: str
    delivery: int
    def __init__(self, time_unix_ms: _Optional[int] = ..., text: _Optional[str] = ..., delivery: _Optional[int] = ...) -> None: ...
