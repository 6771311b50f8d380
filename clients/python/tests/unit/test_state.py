# SPDX-License-Identifier: Apache-2.0
"""The numbers of a session: docs/api.md, "For workers"."""

import pytest

from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.worker._state import Held, ProtocolError, SessionState, Status, released_report, started_report


def deliveries(seq: int, *jobs: str, accepted: int = 0, ping: int = 0) -> pb.Deliveries:
    return pb.Deliveries(
        delivery_seq=seq, deliveries=[pb.Delivery(job_id=job, delivery=1) for job in jobs], accepted_report_seq=accepted, ping=ping
    )


def take(state: SessionState) -> Held:
    held = state.queue.popleft()
    held.status = Status.RUNNING
    return held


def beat(state: SessionState) -> pb.Heartbeat:
    return pb.Reports.FromString(state.heartbeat(10)).heartbeat


def message(data: bytes | None) -> pb.Reports:
    assert data is not None
    return pb.Reports.FromString(data)


def test_a_repeat_is_dropped_and_a_gap_is_an_error() -> None:
    state = SessionState()
    assert [held.message.job_id for held in state.receive(deliveries(1, "a", "b"))] == ["a", "b"]
    assert state.receive(deliveries(1, "a", "b")) == []
    with pytest.raises(ProtocolError):
        state.receive(deliveries(3, "c"))
    assert len(state.receive(deliveries(2, "c"))) == 1
    assert beat(state).received_up_to == 2


def test_a_number_without_deliveries_counts() -> None:
    state = SessionState()
    assert state.receive(deliveries(1)) == []
    assert state.receive(deliveries(0)) == []
    assert len(state.receive(deliveries(2, "c"))) == 1
    assert beat(state).received_up_to == 2


def test_a_delivery_is_held_until_its_final_report_is_accepted() -> None:
    state = SessionState()
    state.receive(deliveries(1, "a", "b"))
    first, second = take(state), take(state)
    state.news(started_report(first))
    state.final(first, released_report(first))
    sent = message(state.next_message())
    assert (sent.report_seq, [report.WhichOneof("event") for report in sent.reports]) == (1, ["started", "released"])
    assert [held.job_id for held in beat(state).held] == ["a", "b"]
    assert not state.is_reported
    state.receive(pb.Deliveries(accepted_report_seq=1, ping=7))
    assert [held.job_id for held in beat(state).held] == ["b"]
    assert beat(state).ping == 7
    state.final(second, released_report(second))
    assert message(state.next_message()).report_seq == 2
    assert state.next_message() is None


def test_what_was_not_accepted_is_sent_again_with_its_number() -> None:
    state = SessionState()
    state.receive(deliveries(1, "a", "b", "c"))
    for _ in range(3):
        held = take(state)
        state.final(held, released_report(held))
        state.next_message()
    state.receive(pb.Deliveries(accepted_report_seq=1))
    assert [(again.report_seq, again.reports[0].job_id) for again in map(message, state.unaccepted())] == [(2, "b"), (3, "c")]


def test_messages_keep_to_the_limit_of_bytes() -> None:
    state = SessionState()
    state.reports_bytes_max = 5000
    state.receive(deliveries(1, *"abcdef"))
    for _ in range(6):
        held = take(state)
        report = pb.Report(job_id=held.message.job_id, delivery=1)
        report.succeeded.result.json = '"' + 1500 * "x" + '"'
        state.final(held, report.SerializeToString())
    sizes, jobs = [], []
    while (data := state.next_message()) is not None:
        sizes.append(len(data))
        jobs += [report.job_id for report in message(data).reports]
    assert max(sizes) <= 5000
    assert jobs == list("abcdef")


def test_news_beyond_the_limit_is_dropped_and_final_reports_never() -> None:
    state = SessionState()
    state.receive(deliveries(1, "a"))
    held = take(state)
    report = pb.Report(job_id="a", delivery=1)
    report.log.lines.add(text="x" * 1_000_000)
    for _ in range(20):
        state.news(report.SerializeToString())
    state.final(held, released_report(held))
    events = []
    while (data := state.next_message()) is not None:
        events += [report.WhichOneof("event") for report in message(data).reports]
    assert events == ["log"] * 8 + ["released"]


def test_a_lost_delivery_is_neither_held_nor_reported() -> None:
    state = SessionState()
    state.receive(deliveries(1, "a", "b"))
    running = take(state)
    queued = state.queue[0]
    state.drop(queued)
    state.drop(running)
    assert list(beat(state).held) == []
    assert not state.queue
    state.final(running, released_report(running))
    assert state.next_message() is None


def test_a_session_that_is_gone_takes_its_numbers_with_it() -> None:
    state = SessionState()
    state.reports_bytes_max = 5000
    state.receive(deliveries(1, "a", "b"))
    running = take(state)
    assert state.forget() == [running]
    assert state.reports_bytes_max == 5000
    assert beat(state).received_up_to == 0
    state.final(running, released_report(running))
    assert state.next_message() is None
    assert len(state.receive(deliveries(1, "c"))) == 1
