# SPDX-License-Identifier: Apache-2.0
"""Tasks, their policies, routing rules, options."""

import pytest

from millrace import InvalidArgument, JobPriority, JobSpec, Registry, Task, WorkerOptions
from millrace.routing import Routes
from millrace.worker.options import parse_queues


def test_a_task_is_called_like_its_function_and_makes_specs() -> None:
    registry = Registry()

    @registry.task(queue="mail", priority=JobPriority.HIGH, labels={"team": "a"})
    def send(to: str, copies: int = 1) -> str:
        return f"{to} x{copies}"

    assert send("a@example.org", copies=2) == "a@example.org x2"
    assert send.spec("b", copies=3) == JobSpec(
        "send", args=("b",), kwargs={"copies": 3}, queue="mail", priority=JobPriority.HIGH, labels={"team": "a"}
    )
    assert send.apply(JobSpec("send", queue="other")).queue == "other"


def test_a_second_handler_of_a_name_is_an_error_that_names_both() -> None:
    registry = Registry()
    registry.task("twice")(test_a_task_is_called_like_its_function_and_makes_specs)
    with pytest.raises(InvalidArgument, match=r"twice.*test_a_task.*test_a_second") as error:
        registry.task("twice")(test_a_second_handler_of_a_name_is_an_error_that_names_both)
    assert error.value.field == "name"
    registry.task("twice")(test_a_task_is_called_like_its_function_and_makes_specs)  # the same again: a module imported twice


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no spaces"):
        Task(lambda: None, "no spaces")


def test_the_star_handles_what_has_no_handler() -> None:
    registry = Registry()

    @registry.task("*")
    def anything() -> None: ...

    @registry.task
    def known() -> None: ...

    assert registry.get("known") is known
    assert registry.get("unknown") is anything


def test_the_first_route_that_matches_counts() -> None:
    routes = Routes({"fraud_check": "now", "fraud_*": "fraud", "report.?": "slow"})
    assert [routes.queue_for(task) for task in ("fraud_check", "fraud_alert", "report.a", "report.ab", "other")] == [
        "now",
        "fraud",
        "slow",
        None,
        None,
    ]


def test_queues_are_parsed_with_weights() -> None:
    assert parse_queues("default:5,critical:10,low") == {"default": 5, "critical": 10, "low": 1}
    assert parse_queues("a:b:2") == {"a:b": 2}
    for bad in ("", "a:0", "a:1001", "a:x", ":3"):
        with pytest.raises(InvalidArgument):
            parse_queues(bad)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"pool": "fibres"}, {"transport": "pigeon"}, {"queues": {}}, {"prefetch": -1}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as error:
        WorkerOptions(**options)  # type: ignore[arg-type]
    assert error.value.field == next(iter(options))
