# SPDX-License-Identifier: Apache-2.0
"""What producers ask for, as it is sent."""

import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from millrace import ConcurrencyKey, InvalidArgument, JobFilter, JobPriority, JobSpec, RetryPolicy, ScheduleSpec, UniqueKey
from millrace._convert import filter_to_pb, new_id, schedule_to_pb, spec_to_pb
from millrace.payload import Payload
from millrace.proto.v1 import common_pb2
from millrace.routing import Routes


def send(**fields: Any) -> Any:
    return spec_to_pb(JobSpec("t", **fields), Routes({"t": "routed"}), None)


def test_priorities_have_the_wires_numbers() -> None:
    assert [send(priority=priority).priority for priority in (0, 5, JobPriority.HIGH, 10)] == [1, 5, 8, 10]
    with pytest.raises(InvalidArgument, match="priority is 3"):
        send(priority=3)


def test_zero_that_is_a_choice_is_sent() -> None:
    message = send(attempt_timeout=0, retention=timedelta(), retry=RetryPolicy(jitter=0))
    assert message.HasField("attempt_timeout")
    assert message.HasField("retention")
    assert message.retry_policy.HasField("jitter")
    bare = send()
    assert not any(bare.HasField(name) for name in ("attempt_timeout", "retention", "retry_policy", "delay", "payload"))


def test_everything_arrives_in_its_field() -> None:
    at = datetime(2030, 1, 1, 12, 0, 0, 1000, UTC)
    message = send(
        run_at=at,
        expires_in=1.5,
        retry=RetryPolicy(max_attempts=3, backoff="list", delays=[1, timedelta(seconds=2)], max=9),
        unique=UniqueKey("u", scope="period", period=3, return_existing=True),
        concurrency=ConcurrencyKey("c", limit=2),
        labels={"a": "b"},
        wants_previous_result=True,
    )
    assert message.run_at.ToDatetime(UTC) == at
    assert message.expires_in.ToMilliseconds() == 1500
    assert message.retry_policy.kind == common_pb2.BACKOFF_KIND_LIST
    assert [delay.ToSeconds() for delay in message.retry_policy.delays] == [1, 2]
    assert message.unique_key.rule == common_pb2.UNIQUE_RULE_RETURN_EXISTING
    assert message.unique_key.scope == common_pb2.UNIQUE_SCOPE_PERIOD
    assert (message.concurrency_key.key, message.concurrency_key.limit) == ("c", 2)
    assert dict(message.labels) == {"a": "b"}
    assert message.wants_previous_result


def test_arguments_that_are_none_are_as_good_as_empty() -> None:
    bare = send()
    for fields in ({"args": None}, {"kwargs": None}, {"args": None, "kwargs": None}, {"payload": None, "args": None}):
        assert send(**fields).payload == (send(payload=None) if "payload" in fields else bare).payload
    assert send(args=[1], kwargs=None).payload.json == "[1]"


def test_a_retry_policy_takes_numbers_and_lists_of_every_kind() -> None:
    message = send(retry=RetryPolicy(multiplier=Decimal("1.5"), jitter=Fraction(1, 4))).retry_policy  # type: ignore[arg-type]
    assert (message.multiplier, message.jitter.value) == (1.5, 0.25)
    for delays in ((delay for delay in (1, 2)), {1: "a", 2: "b"}.keys(), deque([1, 2])):
        message = send(retry=RetryPolicy(delays=delays)).retry_policy  # type: ignore[arg-type]
        assert [delay.ToSeconds() for delay in message.delays] == [1, 2]
    assert [delay.ToSeconds() for delay in send(retry=RetryPolicy(delays={3})).retry_policy.delays] == [3]  # type: ignore[arg-type]


def test_a_queue_that_is_named_beats_the_routes() -> None:
    assert send().queue == "routed"
    assert send(queue="named").queue == "named"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"delay": 1, "run_at": datetime.now(UTC)}, "run_at"),
        ({"expires_in": 1, "expires_at": datetime.now(UTC)}, "expires_at"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),
        ({"delay": "soon"}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"id": "no-uuid"}, "id"),
        ({"payload": 1, "args": [2]}, "payload"),
        ({"retry": RetryPolicy(backoff="cubic")}, "retry.backoff"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(max_attempts=-1)}, "retry.max_attempts"),
        ({"unique": UniqueKey("k", scope="always")}, "unique.scope"),  # type: ignore[arg-type]
        ({"kwargs": {"a": {"b": float("nan")}}}, "kwargs.a.b"),
        ({"queue": 5}, "queue"),
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": {1: "a"}}, "labels"),
        ({"labels": ["a"]}, "labels"),
        ({"unique": 5}, "unique"),
        ({"unique": UniqueKey(5)}, "unique.key"),  # type: ignore[arg-type]
        ({"concurrency": 5}, "concurrency"),
        ({"concurrency": ConcurrencyKey(5)}, "concurrency.key"),  # type: ignore[arg-type]
        ({"retry": 5}, "retry"),
        ({"retry": RetryPolicy(delays=5)}, "retry.delays"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(delays="12")}, "retry.delays"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(multiplier=10**400)}, "retry.multiplier"),
        ({"retry": RetryPolicy(multiplier="2")}, "retry.multiplier"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(jitter="0")}, "retry.jitter"),  # type: ignore[arg-type]
        ({"args": 5}, "args"),
        ({"args": "abc"}, "args"),
        ({"kwargs": [5]}, "kwargs"),
        ({"payload": Payload(json=5)}, "payload"),  # type: ignore[arg-type]
        ({"payload": Payload(data="text")}, "payload"),  # type: ignore[arg-type]
        ({"traceparent": 5}, "traceparent"),
    ],
)
def test_what_cannot_be_meant_is_refused_naming_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        send(**fields)
    assert error.value.field == field


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d"])
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda text: JobSpec(text), "task"),
        (lambda text: JobSpec("t", queue=text), "queue"),
        (lambda text: JobSpec("t", id=text), "id"),
        (lambda text: JobSpec("t", labels={text: "b"}), "labels"),
        (lambda text: JobSpec("t", labels={"a": text}), "labels"),
        (lambda text: JobSpec("t", unique=text), "unique.key"),
        (lambda text: JobSpec("t", concurrency=text), "concurrency.key"),
        (lambda text: JobSpec("t", traceparent=text), "traceparent"),
        (lambda text: JobSpec("t", tracestate=text), "tracestate"),
        (lambda text: JobSpec("t", payload=Payload(json=text)), "payload"),
        (lambda text: JobSpec("t", payload=Payload(json="1", content_type=text)), "payload.content_type"),
    ],
)
def test_a_text_that_no_message_can_carry_is_refused_naming_the_field(make: Callable[[str], JobSpec], field: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        spec_to_pb(make(text), Routes(), None)
    assert error.value.field == field


def test_a_payload_may_say_nul() -> None:
    assert send(args=["a\0b"]).payload.json == '["a\\u0000b"]'
    assert send(payload=b"a\0b").payload.data == b"a\0b"


def test_ids_are_made_once_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(uuid.UUID(id).version == 7 for id in ids)
    assert ids == sorted(ids)
    assert send(id=uuid.UUID(int=5)).id == str(uuid.UUID(int=5))
    assert spec_to_pb(JobSpec("t"), Routes(), None, make_id=False).id == ""


def test_a_text_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="queues is a list"):
        filter_to_pb(JobFilter(queues="default"))
    with pytest.raises(InvalidArgument, match="it can be scheduled"):
        filter_to_pb(JobFilter(states=["done"]))


def test_a_schedule_needs_one_way_to_tell_time() -> None:
    for timing in ({}, {"cron": "* * * * *", "interval": 1}):
        with pytest.raises(InvalidArgument, match="cron or interval"):
            schedule_to_pb(ScheduleSpec(name="s", job=JobSpec("t"), **timing), Routes(), None)  # type: ignore[arg-type]
