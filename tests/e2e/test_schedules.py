# SPDX-License-Identifier: Apache-2.0
"""Schedules: cron and interval, zones through both clock changes, pause, overlap, catch-up, and exactly one job for each time."""
import datetime
import random
import time

import pytest

from harness import api
from harness.api import JobState, ScheduleOverlap, fails
from harness.wait import never, wait_until
from harness.worker import HOLD, echo

DAY_S = 86400


def at(text):
    """Unix seconds of "2026-03-29 01:00:00", UTC."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc).timestamp()


def text_of(stamp):
    """The other way round."""
    return datetime.datetime.fromtimestamp(stamp.seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def cron(expression, zone="", **fields):
    """Timing by cron."""
    return api.ScheduleTiming(cron=expression, time_zone=zone, **fields)


def every(interval_s, **fields):
    """Timing by interval."""
    return api.ScheduleTiming(interval=api.seconds(interval_s), **fields)


def spec(name, timing, task="tick", queue="default", **fields):
    """A schedule."""
    return api.ScheduleSpec(name=name, timing=timing, job=api.JobSpec(task=task, queue=queue), **fields)


def get(client, name):
    """As it is now."""
    return client.GetSchedule(name=name).schedule


def preview(client, timing, after, count=10):
    """Nominal times as text."""
    return [text_of(t) for t in client.PreviewSchedule(timing=timing, after=api.timestamp(at(after)), count=count).times]


# ---- preview: what expressions mean ----

@pytest.mark.parametrize("expression, after, expected", [
    ("0 9 * * *", "2026-01-01 08:59:59", ["2026-01-01 09:00:00", "2026-01-02 09:00:00"]),
    ("0 9 * * *", "2026-01-01 09:00:00", ["2026-01-02 09:00:00"]),
    ("0 0 * * 0", "2026-01-01 00:00:00", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
    ("0 0 * * 7", "2026-01-01 00:00:00", ["2026-01-04 00:00:00"]),
    ("*/15 * * * *", "2026-01-01 00:01:00", ["2026-01-01 00:15:00", "2026-01-01 00:30:00", "2026-01-01 00:45:00", "2026-01-01 01:00:00"]),
    ("0 9 1 * *", "2026-01-01 10:00:00", ["2026-02-01 09:00:00", "2026-03-01 09:00:00"]),
    ("0 */2 * * *", "2026-01-01 00:00:00", ["2026-01-01 02:00:00", "2026-01-01 04:00:00"]),
    ("30 4 * * 1-5", "2026-01-02 05:00:00", ["2026-01-05 04:30:00", "2026-01-06 04:30:00"]),
    ("30 4 * * mon-fri", "2026-01-02 05:00:00", ["2026-01-05 04:30:00"]),
    ("0 0 1 JAN,jul *", "2026-01-02 00:00:00", ["2026-07-01 00:00:00", "2027-01-01 00:00:00"]),
    ("0 0 13 * 5", "2026-02-01 00:00:00", ["2026-02-06 00:00:00", "2026-02-13 00:00:00", "2026-02-20 00:00:00"]),
    ("0 0 29 2 *", "2026-01-01 00:00:00", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
    ("0 0 31 * *", "2026-01-31 00:00:00", ["2026-03-31 00:00:00", "2026-05-31 00:00:00"]),
    ("10-20/5 8 * * *", "2026-01-01 00:00:00", ["2026-01-01 08:10:00", "2026-01-01 08:15:00", "2026-01-01 08:20:00"]),
    ("*/20 * * * * *", "2026-01-01 00:00:00", ["2026-01-01 00:00:20", "2026-01-01 00:00:40", "2026-01-01 00:01:00"]),
    ("@hourly", "2026-01-01 00:00:00", ["2026-01-01 01:00:00"]),
    ("@daily", "2026-01-01 00:00:00", ["2026-01-02 00:00:00"]),
    ("@weekly", "2026-01-01 00:00:00", ["2026-01-04 00:00:00"]),
    ("@monthly", "2026-01-01 00:00:00", ["2026-02-01 00:00:00"]),
    ("@yearly", "2026-01-01 00:00:00", ["2027-01-01 00:00:00"]),
])
def test_preview(shared, expression, after, expected):
    assert preview(shared.client, cron(expression), after, len(expected)) == expected


# Berlin: +1 h in winter, +2 h in summer. 2026-03-29 01:00Z: 02:00 becomes 03:00. 2026-10-25 01:00Z: 03:00 becomes 02:00.
# New York: 2026-03-08 07:00Z: 02:00 becomes 03:00. 2026-11-01 06:00Z: 02:00 becomes 01:00.
@pytest.mark.parametrize("zone, expression, after, expected", [
    # Skipped in spring: once, right after the gap.
    ("Europe/Berlin", "30 2 * * *", "2026-03-28 00:00:00", ["2026-03-28 01:30:00", "2026-03-29 01:00:00", "2026-03-30 00:30:00"]),
    ("Europe/Berlin", "0,30 2 * * *", "2026-03-28 12:00:00", ["2026-03-29 01:00:00", "2026-03-30 00:00:00"]),
    ("America/New_York", "30 2 * * *", "2026-03-07 12:00:00", ["2026-03-08 07:00:00", "2026-03-09 06:30:00"]),
    # Wildcards go through the gap as time does.
    ("Europe/Berlin", "*/30 * * * *", "2026-03-29 00:00:00", ["2026-03-29 00:30:00", "2026-03-29 01:00:00", "2026-03-29 01:30:00"]),
    ("Europe/Berlin", "0 * * * *", "2026-03-28 23:30:00", ["2026-03-29 00:00:00", "2026-03-29 01:00:00", "2026-03-29 02:00:00"]),
    # Twice in autumn: fixed times once, wildcards every time.
    ("Europe/Berlin", "30 2 * * *", "2026-10-24 12:00:00", ["2026-10-25 00:30:00", "2026-10-26 01:30:00"]),
    ("America/New_York", "30 1 * * *", "2026-10-31 12:00:00", ["2026-11-01 05:30:00", "2026-11-02 06:30:00"]),
    ("Europe/Berlin", "30 * * * *", "2026-10-25 00:00:00", ["2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 02:30:00"]),
    # A zone with half an hour of daylight saving, and one without any.
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 00:00:00", ["2026-10-03 15:30:00", "2026-10-04 15:15:00"]),
    ("Asia/Kolkata", "0 9 * * *", "2026-01-01 00:00:00", ["2026-01-01 03:30:00"]),
])
def test_preview_through_clock_changes(shared, zone, expression, after, expected):
    assert preview(shared.client, cron(expression, zone), after, len(expected)) == expected


def test_preview_of_an_interval_and_its_ends(shared):
    client = shared.client
    timing = every(3600, start_at=api.timestamp(at("2026-01-01 00:10:00")), end_at=api.timestamp(at("2026-01-01 03:10:00")))
    assert preview(client, timing, "2025-12-01 00:00:00") == ["2026-01-01 00:10:00", "2026-01-01 01:10:00", "2026-01-01 02:10:00"]
    timing = cron("0 0 * * *", start_at=api.timestamp(at("2026-01-03 00:00:00")), end_at=api.timestamp(at("2026-01-05 00:00:00")))
    assert preview(client, timing, "2026-01-01 00:00:00") == ["2026-01-03 00:00:00", "2026-01-04 00:00:00"]
    assert len(client.PreviewSchedule(timing=cron("* * * * *")).times) == 10
    assert len(client.PreviewSchedule(timing=cron("* * * * *"), count=100).times) == 100
    assert not client.ListSchedules().schedules


# ---- making jobs ----

def test_an_interval_makes_a_job_each_time(server, make_worker):
    client = server.client
    created = client.CreateSchedule(schedule=spec("ping", every(1))).schedule
    first = api.unix(created.next_run_at)
    assert first - api.unix(created.created_at) == pytest.approx(1, abs=0.01)
    make_worker(server, handler=echo)
    done = wait_until(lambda: get(client, "ping") if get(client, "ping").runs >= 3 else None, "three runs")
    assert (api.unix(done.last_run_at) - first) % 1 == pytest.approx(0, abs=0.001)
    assert api.unix(done.next_run_at) == pytest.approx(api.unix(done.last_run_at) + 1, abs=0.001)
    assert 0 <= api.unix(done.last_lateness) < 3
    job = client.wait(done.last_job_id)
    assert (job.schedule_name, job.task, job.state) == ("ping", "tick", JobState.SUCCEEDED)
    client.PauseSchedule(name="ping")
    runs = get(client, "ping").runs
    assert len(client.list(schedule_name="ping")) == runs


def test_cron_fires_at_its_time(timed_server, clock, make_worker):
    client = timed_server.client
    clock.set(at("2026-06-01 08:59:30"))
    schedule = client.CreateSchedule(schedule=spec("report", cron("0 9 * * *"), task="generate_daily_report")).schedule
    assert text_of(schedule.next_run_at) == "2026-06-01 09:00:00"
    worker = make_worker(timed_server)
    never(lambda: client.list(schedule_name="report"), "ran before its time", 1.2)
    clock.set(at("2026-06-01 09:00:00"))
    assert worker.take().task == "generate_daily_report"
    after = get(client, "report")
    assert (text_of(after.last_run_at), text_of(after.next_run_at), after.runs) == ("2026-06-01 09:00:00", "2026-06-02 09:00:00", 1)


@pytest.mark.parametrize("before, moments, expected", [
    # Spring in Berlin: 02:30 does not exist and runs at 03:00 local time, once.
    ("2026-03-29 00:59:50", ["2026-03-29 01:00:00", "2026-03-29 01:30:00", "2026-03-30 00:30:00"],
     ["2026-03-29 01:00:00", "2026-03-30 00:30:00"]),
    # Autumn: 02:30 comes twice and runs the first time only.
    ("2026-10-25 00:29:50", ["2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-26 01:30:00"],
     ["2026-10-25 00:30:00", "2026-10-26 01:30:00"]),
], ids=["spring", "autumn"])
def test_the_real_program_goes_through_a_clock_change(timed_server, clock, make_worker, before, moments, expected):
    client = timed_server.client
    clock.set(at(before))
    client.CreateSchedule(schedule=spec("night", cron("30 2 * * *", "Europe/Berlin")))
    make_worker(timed_server, handler=echo)
    seen = []
    for moment in moments:
        clock.set(at(moment))
        if moment in expected:
            fired = wait_until(lambda m=moment: get(client, "night") if text_of(get(client, "night").last_run_at) == m else None, moment)
            seen.append(text_of(fired.last_run_at))
            client.wait(fired.last_job_id)
        else:
            never(lambda: get(client, "night").runs > len(seen), f"ran at {moment}", 1.5)
    assert seen == expected
    assert get(client, "night").runs == len(expected)  # the jobs themselves are kept for a day only


def test_start_and_end(server):
    client = server.client
    now = round(time.time())
    client.CreateSchedule(schedule=spec("short", every(1, start_at=api.timestamp(now + 2), end_at=api.timestamp(now + 4)),
                                        overlap=ScheduleOverlap.ALLOW))
    assert api.unix(get(client, "short").next_run_at) == now + 2
    wait_until(lambda: not get(client, "short").HasField("next_run_at"), "its end")
    done = get(client, "short")
    assert (done.runs, api.unix(done.last_run_at)) == (2, now + 3)
    assert len(client.list(schedule_name="short")) == 2


def test_jitter_puts_off_within_its_bounds(timed_server, clock):
    client = timed_server.client
    clock.set(at("2026-06-01 11:59:58"))
    for number in range(20):
        client.CreateSchedule(schedule=spec(f"j{number}", cron("0 12 * * *", jitter=api.seconds(600))))
    clock.set(at("2026-06-01 12:10:01"))
    nominal = at("2026-06-01 12:00:00")
    wait_until(lambda: len(client.list(queues=["default"])) == 20, "all have run")
    schedules = client.ListSchedules().schedules
    assert {s.runs for s in schedules} == {1}
    assert {text_of(s.last_run_at) for s in schedules} == {"2026-06-01 12:00:00"}
    clock.set(at("2026-06-02 11:59:59"))
    clock.set(nominal + DAY_S + 300)
    wait_until(lambda: any(s.runs == 2 or s.skipped for s in client.ListSchedules().schedules), "about half are due")
    never(lambda: all(s.runs == 2 or s.skipped for s in client.ListSchedules().schedules), "no jitter at all", 0.5)


# ---- create, get, list, update, delete ----

def test_list_shows_next_runs_by_name_and_page(client):
    for name in ("b", "a", "c"):
        client.CreateSchedule(schedule=spec(name, cron("0 9 * * *")))
    page = client.ListSchedules(page_size=2)
    assert [s.spec.name for s in page.schedules] == ["a", "b"]
    assert all(s.HasField("next_run_at") and s.spec.timing.cron == "0 9 * * *" for s in page.schedules)
    rest = client.ListSchedules(page_size=2, page_token=page.next_page_token)
    assert [s.spec.name for s in rest.schedules] == ["c"] and not rest.next_page_token


def test_create_twice(client):
    schedule = spec("daily", cron("0 9 * * *"))
    first = client.CreateSchedule(schedule=schedule)
    again = client.CreateSchedule(schedule=schedule)
    assert (first.existing, again.existing, again.schedule) == (False, True, first.schedule)
    with fails("ALREADY_EXISTS", text="daily"):
        client.CreateSchedule(schedule=spec("daily", cron("0 10 * * *")))
    assert get(client, "daily").spec.timing.cron == "0 9 * * *"


def test_update_replaces_the_content_and_keeps_the_past(server):
    client = server.client
    client.CreateSchedule(schedule=spec("s", every(1), overlap=ScheduleOverlap.ALLOW))
    before = wait_until(lambda: get(client, "s") if get(client, "s").runs else None, "a run")
    updated = client.UpdateSchedule(schedule=spec("s", cron("0 9 * * *"), task="other", description="new")).schedule
    assert (updated.spec.timing.cron, updated.spec.job.task, updated.spec.description) == ("0 9 * * *", "other", "new")
    assert updated.runs >= before.runs and updated.created_at == before.created_at and updated.last_job_id
    assert updated.next_run_at.seconds % 3600 == 0
    runs = updated.runs
    never(lambda: get(client, "s").runs != runs, "the old timing goes on", 1.5)
    with fails("NOT_FOUND", text="nobody"):
        client.UpdateSchedule(schedule=spec("nobody", every(60)))


def test_delete_leaves_the_jobs(server):
    client = server.client
    client.CreateSchedule(schedule=spec("s", every(1), overlap=ScheduleOverlap.ALLOW))
    job_id = wait_until(lambda: get(client, "s").last_job_id, "a run")
    client.DeleteSchedule(name="s")
    for method in ("GetSchedule", "DeleteSchedule", "PauseSchedule", "ResumeSchedule", "RunSchedule"):
        with fails("NOT_FOUND", text="'s'"):
            getattr(client, method)(name="s")
    assert client.job(job_id).state == JobState.PENDING
    count = len(client.list(queues=["default"]))
    never(lambda: len(client.list(queues=["default"])) != count, "a deleted schedule runs", 1.5)
    # The same name anew is another schedule: its jobs are new ones.
    client.CreateSchedule(schedule=spec("s", every(1), overlap=ScheduleOverlap.ALLOW))
    wait_until(lambda: len(client.list(queues=["default"])) > count, "the new one runs")


def test_schedules_survive_a_crash(server):
    client = server.client
    client.CreateSchedule(schedule=spec("s", cron("0 9 * * *", "Europe/Berlin"), description="kept"))
    client.PauseSchedule(name="s")
    before = get(client, "s")
    server.restart()
    assert get(client, "s") == before


# ---- declare ----

def test_declare_makes_an_owners_schedules_be_these(client):
    client.CreateSchedule(schedule=spec("foreign", cron("0 1 * * *")))

    def declare(*specs, prune=False):
        answer = client.DeclareSchedules(owner="shop", schedules=specs, prune=prune)
        return answer.created, answer.updated, answer.unchanged, answer.deleted

    assert declare(spec("a", cron("0 9 * * *")), spec("b", every(60))) == (2, 0, 0, 0)
    assert get(client, "a").owner == "shop"
    next_run = get(client, "b").next_run_at
    assert declare(spec("a", cron("0 9 * * *")), spec("b", every(60))) == (0, 0, 2, 0)
    assert get(client, "b").next_run_at == next_run
    assert declare(spec("a", cron("0 10 * * *"))) == (0, 1, 0, 0)
    assert get(client, "b").spec.timing.interval.seconds == 60
    assert declare(spec("a", cron("0 10 * * *")), spec("c", every(60)), prune=True) == (1, 0, 1, 1)
    assert [s.spec.name for s in client.ListSchedules(owner="shop").schedules] == ["a", "c"]
    assert [s.spec.name for s in client.ListSchedules().schedules] == ["a", "c", "foreign"]
    assert declare(prune=True) == (0, 0, 0, 2)
    assert get(client, "foreign").owner == ""


def test_declaring_again_keeps_a_pause(client):
    client.DeclareSchedules(owner="shop", schedules=[spec("a", cron("0 9 * * *"))])
    client.PauseSchedule(name="a")
    assert client.DeclareSchedules(owner="shop", schedules=[spec("a", cron("0 9 * * *"))]).unchanged == 1
    assert get(client, "a").paused


def test_a_bad_declaration_changes_nothing(client):
    client.DeclareSchedules(owner="shop", schedules=[spec("a", every(60))])
    with fails("INVALID_ARGUMENT", field="schedules[1].timing.cron"):
        client.DeclareSchedules(owner="shop", schedules=[spec("a", every(90)), spec("b", cron("61 * * * *"))], prune=True)
    assert [s.spec.timing.interval.seconds for s in client.ListSchedules().schedules] == [60]


# ---- pause, resume, run now ----

def test_pause_and_resume(timed_server, clock, make_worker):
    client = timed_server.client
    make_worker(timed_server, handler=echo)
    clock.set(at("2026-06-01 00:30:00"))
    client.CreateSchedule(schedule=spec("hourly", cron("0 * * * *"), catch_up_window=api.seconds(0)))
    assert client.PauseSchedule(name="hourly").schedule.paused
    clock.set(at("2026-06-01 03:30:00"))
    never(lambda: get(client, "hourly").runs, "a paused schedule ran", 1.5)
    resumed = client.ResumeSchedule(name="hourly").schedule
    assert not resumed.paused
    wait_until(lambda: text_of(get(client, "hourly").next_run_at) == "2026-06-01 04:00:00", "the next time")
    assert get(client, "hourly").runs == 0
    clock.set(at("2026-06-01 04:00:00"))
    wait_until(lambda: get(client, "hourly").runs == 1, "a run")


def test_what_was_missed_in_a_pause_is_made_up_for_once(timed_server, clock, make_worker):
    client = timed_server.client
    make_worker(timed_server, handler=echo)
    clock.set(at("2026-06-01 00:30:00"))
    client.CreateSchedule(schedule=spec("hourly", cron("0 * * * *")))
    client.PauseSchedule(name="hourly")
    clock.set(at("2026-06-01 03:30:00"))
    client.ResumeSchedule(name="hourly")
    wait_until(lambda: get(client, "hourly").runs == 1, "the latest is made up for")
    seen = get(client, "hourly")
    assert (text_of(seen.last_run_at), text_of(seen.next_run_at)) == ("2026-06-01 03:00:00", "2026-06-01 04:00:00")
    assert api.unix(seen.last_lateness) == pytest.approx(1800, abs=30)


def test_run_now_leaves_the_times_to_come(client):
    client.CreateSchedule(schedule=spec("daily", cron("0 9 * * *")))
    before = get(client, "daily")
    job_id = api.new_id()
    assert client.RunSchedule(name="daily", job_id=job_id).job_id == job_id
    assert client.RunSchedule(name="daily", job_id=job_id).job_id == job_id
    other = client.RunSchedule(name="daily").job_id
    assert {j.id for j in client.list(schedule_name="daily")} == {job_id, other}
    assert get(client, "daily").next_run_at == before.next_run_at
    client.PauseSchedule(name="daily")
    assert client.RunSchedule(name="daily").job_id


# ---- overlap ----

def test_overlap_skip(server, make_worker):
    client = server.client
    worker = make_worker(server, concurrency=5)
    client.CreateSchedule(schedule=spec("s", every(1)))
    delivery = worker.take()
    wait_until(lambda: get(client, "s").skipped >= 2, "times are skipped")
    assert (get(client, "s").runs, worker.deliveries.qsize()) == (1, 0)
    worker.succeed(delivery)
    assert worker.take().job_id != delivery.job_id


def test_overlap_queue_one(server, make_worker):
    client = server.client
    worker = make_worker(server, concurrency=5)
    client.CreateSchedule(schedule=spec("s", every(1), overlap=ScheduleOverlap.QUEUE_ONE))
    first = worker.take()
    wait_until(lambda: time.time() > api.unix(client.job(first.job_id).created_at) + 3.2, "three more times have passed")
    client.PauseSchedule(name="s")
    assert worker.deliveries.empty()
    assert len(client.list(schedule_name="s", states=[JobState.RUNNING])) == 1
    client.ResumeSchedule(name="s")
    worker.succeed(first)
    second = worker.take()
    assert second.job_id != first.job_id
    never(lambda: not worker.deliveries.empty(), "further times were not skipped", 0.5)
    assert get(client, "s").skipped >= 1


def test_overlap_allow(server, make_worker):
    client = server.client
    worker = make_worker(server, concurrency=5, handler=lambda _: HOLD)
    client.CreateSchedule(schedule=spec("s", every(1), overlap=ScheduleOverlap.ALLOW))
    assert len({d.job_id for d in worker.take_many(3)}) == 3
    assert get(client, "s").skipped == 0


# ---- the server was away ----

@pytest.mark.parametrize("window_s, expected", [(None, "2026-06-01 05:00:00"), (0, None), (7200, "2026-06-01 05:00:00"), (600, None)],
                         ids=["no_limit", "never", "within", "too_old"])
def test_catch_up_after_downtime(timed_server, clock, window_s, expected):
    client = timed_server.client
    clock.set(at("2026-06-01 00:30:00"))
    window = {} if window_s is None else {"catch_up_window": api.seconds(window_s)}
    client.CreateSchedule(schedule=spec("hourly", cron("0 * * * *"), **window))
    timed_server.kill()
    clock.set(at("2026-06-01 05:30:00"))
    timed_server.start()
    if expected:
        wait_until(lambda: get(client, "hourly").runs == 1, "the latest time missed is made up for")
        assert text_of(get(client, "hourly").last_run_at) == expected
    never(lambda: get(client, "hourly").runs > (1 if expected else 0), "more than the latest one", 1)
    wait_until(lambda: text_of(get(client, "hourly").next_run_at) == "2026-06-01 06:00:00", "the next time")
    assert len(client.list(schedule_name="hourly")) == (1 if expected else 0)


@pytest.mark.timeout(240)
def test_no_double_fire_when_killed_at_the_moment_of_firing(timed_server, clock):
    client = timed_server.client
    noon = at("2026-06-01 12:00:00")
    clock.set(noon - 60)
    client.CreateSchedule(schedule=spec("noon", cron("0 12 * * *"), overlap=ScheduleOverlap.ALLOW))
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for day in range(12):
        due = noon + day * DAY_S
        clock.set(due - 0.05)
        time.sleep(chance.uniform(0, 0.2))  # not to pass: to die at another moment each time
        timed_server.kill()
        clock.set(due - 0.02)  # and live through the same moment again
        timed_server.start()
        wait_until(lambda d=due: api.unix(get(client, "noon").last_run_at) == d, f"the run of day {day} (seed {seed})")
        assert len(client.list(schedule_name="noon")) == get(client, "noon").runs == day + 1, f"seed {seed}"
