# SPDX-License-Identifier: Apache-2.0
"""What is handed to a handler and what it returns: JSON text or bytes. docs/json.md has the rules, the same in all languages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

from millrace.errors import EncodingError

__all__ = ["CALL_TYPE", "Codec", "Payload", "decode", "decode_call", "encode", "encode_call"]

CALL_TYPE: Final = "application/vnd.millrace.call+json"
"""Content type of positional and keyword arguments at once: `{"args": [], "kwargs": {}}`."""
_DEPTH_MAX: Final = 64
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Payload:
    """JSON text (`json`) or bytes (`data`), with a media type; neither: empty. The server looks at JSON only to check its form."""

    json: str | None = None
    data: bytes | None = None
    content_type: str = ""

    @property
    def is_empty(self) -> bool:
        """There is no content."""
        return self.json is None and self.data is None


@runtime_checkable
class Codec(Protocol):
    """Changes payloads on their way, both ways: encryption, compression. Give the same codec to producers and workers.

    `encode` gets what was about to be sent and returns what is sent; `decode` turns it back. A codec that leaves a payload alone
    returns it as it is.
    """

    def encode(self, payload: Payload) -> Payload:
        """What is sent instead."""
        ...

    def decode(self, payload: Payload) -> Payload:
        """What was to be sent."""
        ...


def encode(value: Any, codec: Codec | None = None, *, path: str = "payload") -> Payload:
    """Writes a value: bytes as they are, anything else as JSON. Raises EncodingError naming the path of what can't be written."""
    if isinstance(value, Payload):
        payload = value
    elif isinstance(value, bytes | bytearray | memoryview):
        payload = Payload(data=bytes(value))
    else:
        payload = Payload(json=_dump(_plain(value, path, 0)))
    return codec.encode(payload) if codec is not None and not payload.is_empty else payload


def encode_call(args: Sequence[Any], kwargs: Mapping[str, Any], codec: Codec | None = None) -> Payload:
    """Writes arguments: an array, an object, both, or nothing at all."""
    if args and kwargs:
        call = {"args": _plain(list(args), "args", 1), "kwargs": _plain(kwargs, "kwargs", 1)}
        payload = Payload(json=_dump(call), content_type=CALL_TYPE)
    elif args:
        payload = Payload(json=_dump(_plain(list(args), "args", 0)))
    elif kwargs:
        payload = Payload(json=_dump(_plain(kwargs, "kwargs", 0)))
    else:
        return Payload()
    return codec.encode(payload) if codec is not None else payload


def decode(payload: Payload | None, codec: Codec | None = None) -> Any:
    """The value: what the JSON says, the bytes, or None. Integers are exact."""
    if payload is None or payload.is_empty:
        return None
    if codec is not None:
        payload = codec.decode(payload)
    return json.loads(payload.json) if payload.json is not None else payload.data


def decode_call(payload: Payload, codec: Codec | None = None) -> tuple[list[Any], dict[str, Any]]:
    """The arguments: of an object by keyword, of an array by position; anything else is the only argument."""
    if payload.is_empty:
        return [], {}
    if codec is not None:
        payload = codec.decode(payload)
    value = decode(payload)
    if isinstance(value, dict):
        if payload.content_type == CALL_TYPE:
            return list(value.get("args") or []), dict(value.get("kwargs") or {})
        return [], value
    return (value, {}) if isinstance(value, list) else ([value], {})


_dump: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _plain(value: Any, path: str, depth: int) -> Any:
    """The same value of JSON's own types only."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value, path)
    if value is None or kind is bool:
        return value
    if kind is int:
        return _integer(value, path)
    if kind is float:
        return _float(value, path)
    if depth >= _DEPTH_MAX:
        raise EncodingError(f"{path} is nested more than {_DEPTH_MAX} deep", field=path)
    if kind is dict or isinstance(value, Mapping):
        return {_key(key, path): _plain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    if kind is list or kind is tuple or isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _other(value, path)


def _other(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return _text(str.__str__(value), path)
    if isinstance(value, int):
        return _integer(int(value), path)
    if isinstance(value, float):
        return _float(float(value), path)
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise EncodingError(f"{path} is a datetime without a time zone; give it one", field=path)
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise EncodingError(f"{path} is {value}, which JSON can't say", field=path)
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise EncodingError(f"{path} is bytes; bytes go only as the whole payload", field=path)
    hint = "; give its value" if isinstance(value, Enum) else ""
    raise EncodingError(f"{path} is of type {type(value).__name__}, which has no form in JSON{hint}", field=path)


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise EncodingError(f"{path} has the key {key!r}; keys must be text", field=path)
    return key if key.isascii() else _text(key, path)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise EncodingError(f"{path} has half of a surrogate pair, which is no Unicode text", field=path) from None
    return value


def _integer(value: int, path: str) -> int:
    if not _INT_MIN <= value <= _INT_MAX:
        raise EncodingError(f"{path} is {value}, beyond 64 bits; send it as text", field=path)
    return value


def _float(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise EncodingError(f"{path} is {value}, which JSON can't say", field=path)
    return value
