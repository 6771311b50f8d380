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

class ChainState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHAIN_STATE_UNSPECIFIED: _ClassVar[ChainState]
    CHAIN_STATE_RUNNING: _ClassVar[ChainState]
    CHAIN_STATE_SUCCEEDED: _ClassVar[ChainState]
    CHAIN_STATE_FAILED: _ClassVar[ChainState]
    CHAIN_STATE_CANCELLED: _ClassVar[ChainState]
CHAIN_STATE_UNSPECIFIED: ChainState
CHAIN_STATE_RUNNING: ChainState
CHAIN_STATE_SUCCEEDED: ChainState
CHAIN_STATE_FAILED: ChainState
CHAIN_STATE_CANCELLED: ChainState

class Chain(_message.Message):
    __slots__ = ("id", "state", "job_ids", "succeeded", "current_step", "error", "on_failure_job_id", "created_at", "finished_at", "result")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    CURRENT_STEP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: ChainState
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    succeeded: int
    current_step: int
    error: _job_pb2.JobError
    on_failure_job_id: str
    created_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    result: _common_pb2.Payload
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[ChainState, str]] = ..., job_ids: _Optional[_Iterable[str]] = ..., succeeded: _Optional[int] = ..., current_step: _Optional[int] = ..., error: _Optional[_Union[_job_pb2.JobError, _Mapping]] = ..., on_failure_job_id: _Optional[str] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class CreateChainRequest(_message.Message):
    __slots__ = ("id", "steps", "on_failure")
    ID_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    id: str
    steps: _containers.RepeatedCompositeFieldContainer[_job_pb2.JobSpec]
    on_failure: _job_pb2.JobSpec
    def __init__(self, id: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[_job_pb2.JobSpec, _Mapping]]] = ..., on_failure: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ...) -> None: ...

class CreateChainResponse(_message.Message):
    __slots__ = ("chain", "existing")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    chain: Chain
    existing: bool
    def __init__(self, chain: _Optional[_Union[Chain, _Mapping]] = ..., existing: bool = ...) -> None: ...

class GetChainRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetChainResponse(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: Chain
    def __init__(self, chain: _Optional[_Union[Chain, _Mapping]] = ...) -> None: ...

class WaitChainRequest(_message.Message):
    __slots__ = ("id", "timeout")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    id: str
    timeout: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitChainResponse(_message.Message):
    __slots__ = ("chain", "timed_out")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    chain: Chain
    timed_out: bool
    def __init__(self, chain: _Optional[_Union[Chain, _Mapping]] = ..., timed_out: bool = ...) -> None: ...

class ListChainsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListChainsResponse(_message.Message):
    __slots__ = ("chains", "next_page_token")
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    chains: _containers.RepeatedCompositeFieldContainer[Chain]
    next_page_token: str
    def __init__(self, chains: _Optional[_Iterable[_Union[Chain, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelChainRequest(_message.Message):
    __slots__ = ("id", "terminate", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    TERMINATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    terminate: bool
    reason: str
    def __init__(self, id: _Optional[str] = ..., terminate: bool = ..., reason: _Optional[str] = ...) -> None: ...

class CancelChainResponse(_message.Message):
    __slots__ = ("chain", "accepted")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    chain: Chain
    accepted: bool
    def __init__(self, chain: _Optional[_Union[Chain, _Mapping]] = ..., accepted: bool = ...) -> None: ...
