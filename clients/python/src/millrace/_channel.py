# SPDX-License-Identifier: Apache-2.0
"""Where the server is, how to reach it, and what its errors mean."""

from __future__ import annotations

import importlib.resources
import ipaddress
import os
import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from millrace import errors
from millrace._times import delta_from_pb
from millrace.errors import InvalidArgument, MillraceError

ADDRESS_DEFAULT: Final = "127.0.0.1:7070"
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
RETRY_BYTES_MAX: Final = 8 * 1024 * 1024
"""The largest request is 4 MiB; what is not kept can't be sent again."""
PING_AFTER_MS: Final = 20_000
PING_TIMEOUT_MS: Final = 10_000
_SERVICE_CONFIG: Final = importlib.resources.files("millrace.proto").joinpath("service_config.json").read_text("utf-8")
SYSTEM: Final = "system"
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, macOS
)
_JOB_TAKEN: Final = frozenset({"JOB_EXISTS", "JOB_DELETED", "UNIQUE_KEY_TAKEN"})
_BY_CODE: Final[dict[str, type[MillraceError]]] = {
    kind.code: kind
    for kind in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.AlreadyExists,
        errors.FailedPrecondition,
        errors.ResourceExhausted,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.CallCancelled,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.Unimplemented,
        errors.InternalError,
        errors.DataLoss,
    )
}
_OUR_NAMES: Final = {
    "retry_policy.kind": "retry.backoff",
    "retry_policy": "retry",
    "unique_key.rule": "unique.return_existing",
    "unique_key": "unique",
    "concurrency_key": "concurrency",
}
_THEIR_NAME: Final = re.compile(rf"(?<![^.])(?:{'|'.join(map(re.escape, _OUR_NAMES))})(?![^.\[])")
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class _Fork:
    """gRPC does not survive a fork: a child of a process that has used it hangs or aborts. We say so instead."""

    used = False
    forbidden = False

    @classmethod
    def after_in_child(cls) -> None:
        """The child knows what its parent had done."""
        cls.forbidden = cls.forbidden or cls.used

    @classmethod
    def check(cls) -> None:
        """Before each channel."""
        if cls.forbidden:
            raise MillraceError(
                "this process was forked from one that had spoken to Millrace already, which gRPC does not survive: "
                "make the first call after the fork, in each worker of a prefork server"
            )
        cls.used = True


os.register_at_fork(after_in_child=_Fork.after_in_child)


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to speak to it. What is None comes from the environment."""

    address: str
    token: str | None = None
    ca: bytes | None = None
    """Certificates of the authority, PEM; None: no encryption."""
    certificate: bytes | None = None
    key: bytes | None = None
    certificate_files: tuple[str, str] | None = None

    @classmethod
    def of(
        cls,
        address: str | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
    ) -> Target:
        """Reads the environment and the files."""
        address = address or os.environ.get("MILLRACE_ADDRESS") or ADDRESS_DEFAULT
        token = token or os.environ.get("MILLRACE_TOKEN") or _token_of_file(os.environ.get("MILLRACE_TOKEN_FILE"))
        ca = ca or os.environ.get("MILLRACE_CA") or None
        certificate = certificate or _certificate_of_environment()
        if certificate is not None and ca is None:
            ca = SYSTEM
        return cls(
            address,
            token,
            _authorities(ca) if ca is not None else None,
            _read(certificate[0], "certificate") if certificate is not None else None,
            _read(certificate[1], "certificate") if certificate is not None else None,
            (os.fspath(certificate[0]), os.fspath(certificate[1])) if certificate is not None else None,
        )

    @property
    def host(self) -> str:
        """The host dialled, for the worker port: 127.0.0.1 for unix sockets."""
        if self.address.startswith("unix:"):
            return "127.0.0.1"
        host = self.address.rpartition("/")[2].rpartition(":")[0] or self.address
        bare = host.strip("[]")
        try:
            return f"[{bare}]" if ipaddress.ip_address(bare).version == 6 else bare
        except ValueError:
            return bare

    def options(self) -> Sequence[tuple[str, Any]]:
        """Of a channel."""
        return (
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.enable_retries", 1),
            ("grpc.per_rpc_retry_buffer_size", RETRY_BYTES_MAX),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # A peer or a path that has died without a word would otherwise be waited for as long as TCP likes.
            ("grpc.keepalive_time_ms", PING_AFTER_MS),
            ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
            ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),  # gRPC pings to measure, too, and not for us while that is unanswered
            ("grpc.http2.max_pings_without_data", 0),  # a long wait has none
        )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Of a channel; None: no encryption."""
        if self.ca is None or self.address.startswith("unix:"):  # the server does not encrypt a unix socket either
            return None
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def metadata(self) -> Sequence[tuple[str, str]] | None:
        """Of each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else None

    def open_async(self) -> grpc.aio.Channel:
        """A channel for the running event loop."""
        _Fork.check()
        credentials = self.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=self.options())
        return grpc.aio.secure_channel(self.address, credentials, options=self.options())

    def open(self) -> grpc.Channel:
        """A channel for threads."""
        _Fork.check()
        credentials = self.credentials()
        options = (*self.options(), ("grpc.use_local_subchannel_pool", 1))
        if credentials is None:
            return grpc.insecure_channel(self.address, options=options)
        return grpc.secure_channel(self.address, credentials, options=options)


def _read(path: str | os.PathLike[str], field: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"cannot read {os.fspath(path)} ({field}): {error.strerror}", field=field) from error


def _authorities(ca: str | os.PathLike[str]) -> bytes:
    return _system_authorities() if os.fspath(ca) == SYSTEM else _read(ca, "ca")


def _system_authorities() -> bytes:
    """What this machine trusts: the file that OpenSSL's variable names, else the first that a distribution keeps, else Windows' store.
    gRPC by itself would trust a list of its own."""
    named = os.environ.get("SSL_CERT_FILE")
    kept = (file for file in (ssl.get_default_verify_paths().cafile, *_BUNDLES) if file and os.path.isfile(file))
    if file := named or next(kept, None):
        return _read(file, "ca")
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not found:
        raise InvalidArgument(
            "this machine has no file of authorities that it trusts: install one, or name it in SSL_CERT_FILE", field="ca"
        )
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode("ascii")


def _token_of_file(path: str | None) -> str | None:
    return _read(path, "MILLRACE_TOKEN_FILE").decode("ascii", "replace").strip() or None if path else None


def _certificate_of_environment() -> tuple[str, str] | None:
    certificate, key = os.environ.get("MILLRACE_CERTIFICATE"), os.environ.get("MILLRACE_KEY")
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise InvalidArgument(
            "a client certificate needs both its file (MILLRACE_CERTIFICATE) and that of its key (MILLRACE_KEY)", field="certificate"
        )
    return certificate, key


def error_of_call(error: grpc.RpcError, *, of_job: bool = False) -> MillraceError:
    """What gRPC raised, as one of ours."""
    details: Iterable[Any] = ()
    call: Any = error  # which has more than its type says
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            details = status_pb2.Status.FromString(value).details
    code: grpc.StatusCode = call.code()
    message = call.details() or code.name
    if code is grpc.StatusCode.UNKNOWN:
        # The server never says so: it is how gRPC tells of a connection that broke in the middle of a call.
        code, message = grpc.StatusCode.UNAVAILABLE, f"the connection to the server was lost: {message}"
    return _make(code.name, message, details, of_job)


def error_of_status(status: status_pb2.Status) -> MillraceError:
    """The outcome of one item of a call about jobs."""
    return _make(_CODES.get(status.code, "UNKNOWN"), status.message, status.details, True)


def _our_path(field: str) -> str:
    """The path of an argument as our types have it; the names of labels, which stand in quotes, stay."""
    path, quote, rest = field.partition('["')
    return _THEIR_NAME.sub(lambda found: _OUR_NAMES[found[0]], path) + quote + rest


def _make(code: str, message: str, details: Iterable[Any], of_job: bool) -> MillraceError:
    field = reason = subject = retry_after = None
    for detail in details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, subject = info.reason or None, info.metadata.get("subject")
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            violations = error_details_pb2.BadRequest.FromString(detail.value).field_violations
            field = _our_path(violations[0].field) if violations else None
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_after = delta_from_pb(error_details_pb2.RetryInfo.FromString(detail.value).retry_delay)
    kind = _BY_CODE.get(code, MillraceError)
    if kind is errors.AlreadyExists and reason in _JOB_TAKEN:
        kind = errors.JobExists
    elif kind is errors.ResourceExhausted and reason == "QUEUE_FULL":
        kind = errors.QueueFull
    elif kind is errors.NotFound and of_job:
        kind = errors.JobNotFound
    made = kind(message, field=field, reason=reason, subject=subject, retry_after=retry_after)
    made.code = code
    return made
