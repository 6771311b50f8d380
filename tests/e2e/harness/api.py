# SPDX-License-Identifier: Apache-2.0
"""Messages and calls, made from the project's own .proto files without generated code.

`api.JobSpec(...)`, `api.JobState.PENDING`, `Client(target).GetJob(id=...)`. Method and message names are unique over our services, so
one flat namespace serves; enum values lose their prefix.
"""
import contextlib
import enum
import fcntl
import hashlib
import os
import pathlib
import subprocess
import tempfile
import time
import uuid

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from .wait import SOON_S

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
PROTO = REPOSITORY / "proto"


def _descriptor_set():
    """Runs protoc once for each content of proto/, whoever comes first."""
    roots = (PROTO, PROTO / "third_party")
    files = [sorted(str(p.relative_to(root)) for p in (root / first).rglob("*.proto"))
             for root, first in zip(roots, ("millrace/v1", "."))]
    digest = hashlib.sha256()
    for root, names in zip(roots, files):
        for name in names:
            digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    cache = pathlib.Path(tempfile.gettempdir()) / f"millrace-e2e-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    target = cache / f"{digest.hexdigest()[:16]}.pb"
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            subprocess.run(["protoc", *(f"-I{root}" for root in roots), "--include_imports", f"--descriptor_set_out={part}",
                            *files[0], *files[1]], check=True)
            part.rename(target)
    return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())


_set = _descriptor_set()
_pool = descriptor_pool.DescriptorPool()
_factory = message_factory.MessageFactory(_pool)
for _file in _set.file:
    _pool.Add(_file)


def _message(full_name):
    return _factory.GetPrototype(_pool.FindMessageTypeByName(full_name))


def _enum(full_name):
    descriptor = _pool.FindEnumTypeByName(full_name)
    prefix = "".join("_" + c if c.isupper() else c.upper() for c in descriptor.name).lstrip("_") + "_"
    return enum.IntEnum(descriptor.name, {v.name[len(prefix):]: v.number for v in descriptor.values})


METHODS = {}  # name -> (path, request class, response class, client streams, server streams)
for _file in _set.file:
    if _file.package in ("millrace.v1", "externalscaler"):
        for _entry in _file.message_type:
            globals()[_entry.name] = _message(f"{_file.package}.{_entry.name}")
        for _entry in _file.enum_type:
            globals()[_entry.name] = _enum(f"{_file.package}.{_entry.name}")
        for _service in _file.service:
            for _method in _service.method:
                METHODS[_method.name] = (f"/{_file.package}.{_service.name}/{_method.name}", _message(_method.input_type[1:]),
                                         _message(_method.output_type[1:]), _method.client_streaming, _method.server_streaming)

Timestamp = _message("google.protobuf.Timestamp")
Duration = _message("google.protobuf.Duration")
UInt32Value = _message("google.protobuf.UInt32Value")
UInt64Value = _message("google.protobuf.UInt64Value")
DoubleValue = _message("google.protobuf.DoubleValue")
Status = _message("google.rpc.Status")
HealthCheckRequest = _message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _message("grpc.health.v1.HealthCheckResponse")


def new_id():
    """A UUID as clients make them."""
    return str(uuid.uuid4())


def seconds(value):
    """A Duration."""
    duration = Duration()
    duration.FromNanoseconds(round(value * 1000) * 1_000_000)
    return duration


def timestamp(unix_s):
    """A Timestamp, to the millisecond."""
    result = Timestamp()
    result.FromMilliseconds(round(unix_s * 1000))
    return result


def unix(value):
    """Seconds since 1970 of a Timestamp, seconds of a Duration."""
    return value.seconds + value.nanos / 1e9


def json_payload(text):
    """A JSON payload."""
    return globals()["Payload"](json=text)


class Failure(Exception):
    """A call that ended with an error: what a user's program sees of it."""

    def __init__(self, code, message, details=()):
        super().__init__(f"{code.name}: {message}")
        self.code = code.name
        self.message = message
        self.fields = {}
        self.reason = ""
        self.metadata = {}
        self.retry_after_s = None
        for any_message in details:
            name = any_message.type_url.rsplit("/", 1)[-1]
            detail = _message(name).FromString(any_message.value)
            if name == "google.rpc.BadRequest":
                self.fields.update({v.field: v.description for v in detail.field_violations})
            elif name == "google.rpc.ErrorInfo":
                self.reason = detail.reason
                self.metadata = dict(detail.metadata)
            elif name == "google.rpc.RetryInfo":
                self.retry_after_s = unix(detail.retry_delay)

    @classmethod
    def of(cls, error):
        """From what grpc raises."""
        details = ()
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                details = Status.FromString(value).details
        return cls(error.code(), error.details(), details)

    @classmethod
    def of_status(cls, status):
        """From the outcome of one item."""
        code = next(c for c in grpc.StatusCode if c.value[0] == status.code)
        return cls(code, status.message, status.details)


@contextlib.contextmanager
def fails(code, field=None, reason=None, text=None):
    """Expects a call to fail with this code, naming this field, with this reason, saying this text."""
    holder = type("Seen", (), {"error": None})()
    try:
        yield holder
    except Failure as failure:
        holder.error = failure
        assert failure.code == code, f"expected {code}, got {failure}"
        assert failure.message, "an error must say something"
        if field is not None:
            assert field in failure.fields, f"{failure}: expected field {field}, named {list(failure.fields)}"
        if reason is not None:
            assert failure.reason == reason, f"{failure}: expected reason {reason}, got {failure.reason!r}"
        if text is not None:
            assert text in failure.message, f"{text!r} is not in {failure.message!r}"
        return
    raise AssertionError(f"expected {code}, but the call succeeded")


class Client:
    """Calls by name: client.GetJob(id=...). Keyword arguments make the request; `timeout_s` is the transport's."""

    def __init__(self, target, metadata=(), token=None, credentials=None):
        """`credentials`: of grpc, for an encrypted connection."""
        self.target = target
        self._metadata = [*metadata, *([("authorization", f"Bearer {token}")] if token else [])]
        self._credentials = credentials
        self._channel = None
        self.reset()

    def reset(self):
        """A fresh connection: an idle one of grpc for Python may notice only after seconds that the server is a new one."""
        self.close()
        for name in METHODS:
            self.__dict__.pop(name, None)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20),
                   ("grpc.max_send_message_length", 64 << 20), ("grpc.initial_reconnect_backoff_ms", 50),
                   ("grpc.min_reconnect_backoff_ms", 10000), ("grpc.max_reconnect_backoff_ms", 200)]
        self._channel = (grpc.secure_channel(self.target, self._credentials, options=options) if self._credentials
                         else grpc.insecure_channel(self.target, options=options))

    def close(self):
        """Ends all calls. Harmless again."""
        if self._channel:
            self._channel.close()
        self._channel = None

    def is_open(self):
        """Not closed yet."""
        return self._channel is not None

    def __getattr__(self, name):
        path, request_class, response_class, client_streams, server_streams = METHODS[name]
        kind = ("stream" if client_streams else "unary") + "_" + ("stream" if server_streams else "unary")
        callable_ = getattr(self._channel, kind)(path, request_serializer=lambda m: m.SerializeToString(),
                                                 response_deserializer=response_class.FromString)

        def call(request=None, *, timeout_s=SOON_S, **fields):
            if client_streams:
                return Stream(callable_(request, timeout=timeout_s, metadata=self._metadata))
            if request is None:
                request = request_class(**fields)
            if server_streams:
                return Stream(callable_(request, timeout=timeout_s, metadata=self._metadata))
            try:
                return callable_(request, timeout=timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                raise Failure.of(error) from None

        self.__dict__[name] = call
        return call

    def raw(self, path, data, timeout_s=SOON_S):
        """A unary call with any bytes."""
        try:
            return self._channel.unary_unary(path)(data, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise Failure.of(error) from None

    def health(self, service="", timeout_s=SOON_S, wait=False):
        """The standard health check: "SERVING", "NOT_SERVING", or the failure's code. With `wait`, a connection that is on its way
        is waited for (calls that fail at once do not drive it on)."""
        try:
            answer = self._channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=lambda m: m.SerializeToString(),
                                               response_deserializer=HealthCheckResponse.FromString)(
                HealthCheckRequest(service=service), timeout=timeout_s, wait_for_ready=wait)
        except grpc.RpcError as error:
            return error.code().name
        return {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}[answer.status]

    # What nearly every test does.

    def create(self, task="work", **fields):
        """Creates one job and returns it."""
        return self.CreateJob(job=globals()["JobSpec"](task=task, **fields)).job

    def create_many(self, specs):
        """Creates any number of jobs, 1,000 a call; each must succeed. Returns their ids."""
        ids = []
        for start in range(0, len(specs), 1000):
            for outcome in self.CreateJobs(jobs=specs[start:start + 1000]).outcomes:
                assert not outcome.HasField("error"), outcome.error
                ids.append(outcome.id)
        return ids

    def job(self, job_id):
        """The job as it is now."""
        return self.GetJob(id=job_id).job

    def log(self, job_id):
        """The job's log, as text lines."""
        return [line.text for line in self.GetJob(id=job_id, with_log=True).log]

    def wait(self, job_id, timeout_s=SOON_S):
        """Waits on the server until the job has ended."""
        answer = self.WaitJob(id=job_id, timeout=seconds(timeout_s), timeout_s=timeout_s + 30)
        assert not answer.timed_out, f"job has not ended within {timeout_s} s:\n{answer.job}"
        return answer.job

    def list(self, page_size=1000, view=0, **filter_fields):
        """All jobs that match, over all pages."""
        jobs, token = [], ""
        while True:
            page = self.ListJobs(filter=globals()["JobFilter"](**filter_fields), page_size=page_size, page_token=token, view=view)
            jobs.extend(page.jobs)
            token = page.next_page_token
            if not token:
                return jobs

    def counts(self, queue):
        """A queue's counts that are not zero, as a dict."""
        counts = self.GetQueue(name=queue).queue.counts
        return {field.name: value for field, value in counts.ListFields()}


class Stream:
    """A call with streams: iterate, or take `next()` with the call's deadline."""

    def __init__(self, call):
        self._call = call

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise Failure.of(error) from None

    def next(self):
        """The next message; AssertionError at the end."""
        try:
            return self.__next__()
        except StopIteration:
            raise AssertionError("the stream has ended") from None

    def cancel(self):
        """Leaves."""
        self._call.cancel()


def eventually_serving(client, timeout_s, alive=lambda: True):
    """Waits for SERVING; False when the process has died or time is up."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if client.health(timeout_s=0.5, wait=True) == "SERVING":
            return True
        if not alive():
            return False
        time.sleep(0.01)
    return False
