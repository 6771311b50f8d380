# SPDX-License-Identifier: Apache-2.0
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from millrace.proto.v1 import job_pb2 as _job_pb2
from millrace.proto.v1 import job_service_pb2 as _job_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_STATE_UNSPECIFIED: _ClassVar[BatchState]
    BATCH_STATE_OPEN: _ClassVar[BatchState]
    BATCH_STATE_SEALED: _ClassVar[BatchState]
    BATCH_STATE_SUCCEEDED: _ClassVar[BatchState]
    BATCH_STATE_FAILED: _ClassVar[BatchState]
    BATCH_STATE_CANCELLED: _ClassVar[BatchState]
BATCH_STATE_UNSPECIFIED: BatchState
BATCH_STATE_OPEN: BatchState
BATCH_STATE_SEALED: BatchState
BATCH_STATE_SUCCEEDED: BatchState
BATCH_STATE_FAILED: BatchState
BATCH_STATE_CANCELLED: BatchState

class Batch(_message.Message):
    __slots__ = ("id", "state", "description", "total", "pending", "succeeded", "failed", "cancelled", "expired", "last_chunk", "created_at", "finished_at", "on_success_job_id", "on_complete_job_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    LAST_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    ON_SUCCESS_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ON_COMPLETE_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: BatchState
    description: str
    total: int
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    last_chunk: int
    created_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    on_success_job_id: str
    on_complete_job_id: str
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[BatchState, str]] = ..., description: _Optional[str] = ..., total: _Optional[int] = ..., pending: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ..., expired: _Optional[int] = ..., last_chunk: _Optional[int] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., on_success_job_id: _Optional[str] = ..., on_complete_job_id: _Optional[str] = ...) -> None: ...

class CreateBatchRequest(_message.Message):
    __slots__ = ("id", "description", "defaults", "on_success", "on_complete", "items", "seal")
    ID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    ON_SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ON_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    description: str
    defaults: _job_pb2.JobSpec
    on_success: _job_pb2.JobSpec
    on_complete: _job_pb2.JobSpec
    items: _containers.RepeatedCompositeFieldContainer[_job_pb2.JobSpec]
    seal: bool
    def __init__(self, id: _Optional[str] = ..., description: _Optional[str] = ..., defaults: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., on_success: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., on_complete: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., items: _Optional[_Iterable[_Union[_job_pb2.JobSpec, _Mapping]]] = ..., seal: bool = ...) -> None: ...

class CreateBatchResponse(_message.Message):
    __slots__ = ("batch", "existing", "outcomes")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    existing: bool
    outcomes: _containers.RepeatedCompositeFieldContainer[_job_service_pb2.CreateOutcome]
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ..., existing: bool = ..., outcomes: _Optional[_Iterable[_Union[_job_service_pb2.CreateOutcome, _Mapping]]] = ...) -> None: ...

class AddBatchItemsRequest(_message.Message):
    __slots__ = ("batch_id", "chunk", "items", "last")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    chunk: int
    items: _containers.RepeatedCompositeFieldContainer[_job_pb2.JobSpec]
    last: bool
    def __init__(self, batch_id: _Optional[str] = ..., chunk: _Optional[int] = ..., items: _Optional[_Iterable[_Union[_job_pb2.JobSpec, _Mapping]]] = ..., last: bool = ...) -> None: ...

class AddBatchItemsResponse(_message.Message):
    __slots__ = ("chunk", "repeated_chunk", "outcomes", "total")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    REPEATED_CHUNK_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    chunk: int
    repeated_chunk: bool
    outcomes: _containers.RepeatedCompositeFieldContainer[_job_service_pb2.CreateOutcome]
    total: int
    def __init__(self, chunk: _Optional[int] = ..., repeated_chunk: bool = ..., outcomes: _Optional[_Iterable[_Union[_job_service_pb2.CreateOutcome, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class SealBatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class SealBatchResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ...) -> None: ...

class GetBatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetBatchResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ...) -> None: ...

class WaitBatchRequest(_message.Message):
    __slots__ = ("id", "timeout")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    id: str
    timeout: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitBatchResponse(_message.Message):
    __slots__ = ("batch", "timed_out")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    timed_out: bool
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ..., timed_out: bool = ...) -> None: ...

class ListBatchesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBatchesResponse(_message.Message):
    __slots__ = ("batches", "next_page_token")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[Batch]
    next_page_token: str
    def __init__(self, batches: _Optional[_Iterable[_Union[Batch, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelBatchRequest(_message.Message):
    __slots__ = ("id", "terminate", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    TERMINATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    terminate: bool
    reason: str
    def __init__(self, id: _Optional[str] = ..., terminate: bool = ..., reason: _Optional[str] = ...) -> None: ...

class CancelBatchResponse(_message.Message):
    __slots__ = ("batch", "accepted")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    accepted: bool
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ..., accepted: bool = ...) -> None: ...
