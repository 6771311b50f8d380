# SPDX-License-Identifier: Apache-2.0
"""The rules of docs/json.md."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest

from millrace import EncodingError, Payload
from millrace.payload import CALL_TYPE, decode, decode_call, encode, encode_call


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Kind(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "-9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        (0.1, "0.1"),
        ('Ünï 漢 🚀 " \\ \n', '"Ünï 漢 🚀 \\" \\\\ \\n"'),
        ((1, [2]), "[1,[2]]"),
        ({"a": {"b": []}}, '{"a":{"b":[]}}'),
        (datetime(2026, 1, 31, 12, 0, 0, 250000, UTC), '"2026-01-31T12:00:00.250000Z"'),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), '"2026-01-31T12:00:00+02:00"'),
        (date(2026, 1, 31), '"2026-01-31"'),
        (UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (Decimal("1.10"), '"1.10"'),
        (Size.BIG, "3"),
        (Kind.ONE, '"one"'),
    ],
)
def test_values_have_one_form(value: Any, text: str) -> None:
    assert encode(value).json == text


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, float("nan")]}, "payload.a[1]"),
        ([float("inf")], "payload[0]"),
        ({"a": {"b": Decimal("Infinity")}}, "payload.a.b"),
        ({"n": 2**64}, "payload.n"),
        ({"n": -(2**63) - 1}, "payload.n"),
        ({"raw": b"bytes"}, "payload.raw"),
        ({"when": datetime(2026, 1, 1)}, "payload.when"),
        ({"span": timedelta(1)}, "payload.span"),
        ({"set": {1}}, "payload.set"),
        ({"colour": Colour.RED}, "payload.colour"),
        ({"x": {1: "number as key"}}, "payload.x"),
        (["\ud800"], "payload[0]"),
        ({"o": object()}, "payload.o"),
    ],
)
def test_what_has_no_form_is_refused_naming_the_path(value: Any, path: str) -> None:
    with pytest.raises(EncodingError) as error:
        encode(value)
    assert error.value.field == path
    assert path in str(error.value)


def test_depth_has_a_limit() -> None:
    value: list[Any] = []
    for _ in range(63):
        value = [value]
    assert encode(value).json == "[" * 64 + "]" * 64
    with pytest.raises(EncodingError, match="nested"):
        encode([value])


@pytest.mark.parametrize(
    ("args", "kwargs", "payload"),
    [
        ((), {}, Payload()),
        ((1, "b"), {}, Payload(json='[1,"b"]')),
        ((), {"a": 1}, Payload(json='{"a":1}')),
        (({"a": 1},), {}, Payload(json='[{"a":1}]')),
        ((1,), {"b": 2}, Payload(json='{"args":[1],"kwargs":{"b":2}}', content_type=CALL_TYPE)),
    ],
)
def test_arguments_travel_and_come_back(args: tuple[Any, ...], kwargs: dict[str, Any], payload: Payload) -> None:
    made = encode_call(args, kwargs)
    assert made == payload
    assert decode_call(made) == (list(args), kwargs)


@pytest.mark.parametrize(
    ("payload", "args"),
    [(Payload(json='"text"'), ["text"]), (Payload(json="null"), [None]), (Payload(data=b"\0"), [b"\0"])],
)
def test_anything_else_is_the_only_argument(payload: Payload, args: list[Any]) -> None:
    assert decode_call(payload) == (args, {})


def test_bytes_are_the_whole_payload() -> None:
    assert encode(b"\x00\xff") == Payload(data=b"\x00\xff")
    assert decode(Payload(data=b"\x00\xff")) == b"\x00\xff"


def test_integers_come_back_exact() -> None:
    assert decode(Payload(json="[9007199254740993, 18446744073709551615]")) == [9007199254740993, 18446744073709551615]


class Backwards:
    def encode(self, payload: Payload) -> Payload:
        return Payload(data=(payload.json or "").encode()[::-1], content_type="x/backwards")

    def decode(self, payload: Payload) -> Payload:
        assert payload.content_type == "x/backwards"
        return Payload(json=(payload.data or b"")[::-1].decode())


def test_a_codec_changes_what_is_sent_and_nothing_else() -> None:
    sent = encode({"secret": "swordfish"}, Backwards())
    assert sent.json is None
    assert b"swordfish" not in (sent.data or b"")
    assert decode(sent, Backwards()) == {"secret": "swordfish"}
    assert decode_call(encode_call((), {"a": 1}, Backwards()), Backwards()) == ([], {"a": 1})


def test_a_payload_goes_as_it_is() -> None:
    text = json.dumps({"made": "elsewhere"})
    assert encode(Payload(json=text, content_type="application/x-own+json")).content_type == "application/x-own+json"
