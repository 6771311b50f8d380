# SPDX-License-Identifier: Apache-2.0
"""What only the Celery backend has: an app of one's own, priorities turned round, and what it can't do."""

import json
import re

import pytest
from celery import Celery
from processes import REPOSITORY, free_port
from redis import Redis

from millrace.errors import InvalidArgument, Unavailable
from millrace.jobs import JobManager, JobPriority, JobSpec, NotSupported
from millrace.jobs.celery import _UNSUPPORTED, CeleryQueueBackend


def nothing() -> None: ...


@pytest.fixture
def app(celery_environment: dict[str, str]) -> Celery:
    """An app as a fleet has it: tasks with their modules in their names."""
    app = Celery("shop", broker=celery_environment["CELERY_BROKER_URL"], set_as_current=False)
    for name in ("shop.tasks.email.send_email", "shop.tasks.email.tidy", "shop.tasks.reports.tidy"):
        app.task(name=name, shared=False)(nothing)  # of this app alone
    app.finalize()
    return app


def messages(app: Celery, queue: str, priority: int) -> list[str]:
    """The tasks of the messages that lie in one of a queue's lists."""
    suffix = f"\x06\x16{priority}" if priority else ""
    client = Redis.from_url(app.conf.broker_url)
    return [json.loads(message)["headers"]["task"] for message in client.lrange(queue + suffix, 0, -1)]


async def test_a_bare_name_finds_the_one_task_of_that_name(app: Celery) -> None:
    jobs = JobManager(CeleryQueueBackend(app))
    for name in ("send_email", "shop.tasks.reports.tidy", "of_somebody_else"):
        await jobs.enqueue(name, queue="names")
    found = messages(app, "names", 6)
    assert sorted(found) == ["of_somebody_else", "shop.tasks.email.send_email", "shop.tasks.reports.tidy"]
    with pytest.raises(InvalidArgument, match=r"ambiguous.*shop\.tasks\.email\.tidy, shop\.tasks\.reports\.tidy"):
        await jobs.enqueue("tidy", queue="names")


async def test_priorities_are_turned_round_for_redis(app: Celery) -> None:
    jobs = JobManager(CeleryQueueBackend(app))
    for priority in JobPriority:
        await jobs.enqueue(f"t.{priority.name}", queue="priorities", priority=priority)
    found = {number: messages(app, "priorities", number) for number in (0, 3, 6, 9)}
    assert found == {0: ["t.CRITICAL"], 3: ["t.HIGH"], 6: ["t.NORMAL"], 9: ["t.LOW"]}


async def test_a_broker_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{free_port()}/1")
    monkeypatch.delenv("CELERY_RESULT_BACKEND", raising=False)
    jobs = JobManager(CeleryQueueBackend())
    with pytest.raises(Unavailable, match="broker"):
        await jobs.enqueue("add", 1, 1)
    result = await jobs.enqueue_batch("add", items=[(1, 1)] * 5)
    assert (result.total, result.enqueued) == (5, 0)
    assert result.error is not None
    await jobs.close()


async def test_ones_own_app_stays_open(app: Celery) -> None:
    backend = CeleryQueueBackend(app)
    await backend.close()
    assert await backend.enqueue(JobSpec("t.later", queue="later"))


@pytest.mark.parametrize(
    "spec",
    [JobSpec("t", payload=b"bytes"), JobSpec("t", wants_previous_result=True)],
)
async def test_a_spec_that_celery_cannot_carry_is_refused(app: Celery, spec: JobSpec) -> None:
    with pytest.raises(NotSupported):
        await CeleryQueueBackend(app).enqueue(spec)


@pytest.mark.parametrize("cron", ["@daily", "0 0 9 * * *", "0 9 1 * 1"])
async def test_a_cron_expression_that_celery_reads_otherwise_is_refused(app: Celery, cron: str) -> None:
    with pytest.raises(NotSupported):
        await JobManager(CeleryQueueBackend(app)).schedule("t", cron=cron)


async def test_a_time_zone_of_a_schedule_is_refused(app: Celery) -> None:
    with pytest.raises(NotSupported):
        await JobManager(CeleryQueueBackend(app)).options(time_zone="Europe/Berlin").schedule("t", cron="0 9 * * *")


def test_the_guide_names_all_that_celery_cannot_do() -> None:
    guide = (REPOSITORY / "docs" / "from-celery.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \| `NotSupported`", guide, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert named >= {*_UNSUPPORTED, "payload", "time_zone"}
