# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up: the store on a file system of its own, beside a file that somebody else lets grow. Needs root, to mount it."""
import os
import subprocess
import time

import pytest

from harness import api, monitor
from harness.api import JobState, ScheduleOverlap, fails
from harness.wait import SOON_S, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Disk:
    """The server's data directory as a small disk."""

    def __init__(self, path):
        self.path = path
        self._neighbour = path / "neighbour"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(path)], check=True)

    def leave(self, mib):
        """The neighbour takes all but so much."""
        self._neighbour.unlink(missing_ok=True)
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        with open(self._neighbour, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - mib * MIB)

    def clear(self):
        """The neighbour cleans up."""
        self._neighbour.unlink()

    def close(self):
        """Unmounts it; what is on it is gone."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def on_disk(make_server):
    """(server, its disk)"""
    server = make_server(start=False)
    disk = Disk(server.data)
    yield server.start(), disk
    server.stop()
    assert server.check().returncode == 0
    server.check_on_exit = False
    disk.close()


def schedule(client, name):
    """As it is now."""
    return client.GetSchedule(name=name).schedule


def refuses(client):
    """Are new jobs refused?"""
    try:
        client.create(queue="probe")
    except api.Failure as failure:
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "DISK_LOW") and "less than 512 MiB" in failure.message
        return True
    return False


def test_on_a_low_disk_no_jobs_begin_and_all_else_goes_on(on_disk, make_worker):
    server, disk = on_disk
    client = server.client
    for name, overlap in (("often", ScheduleOverlap.ALLOW), ("one", ScheduleOverlap.QUEUE_ONE)):
        client.CreateSchedule(schedule=api.ScheduleSpec(name=name, overlap=overlap, timing=api.ScheduleTiming(interval=api.seconds(1)),
                                                        job=api.JobSpec(task="tick", queue=name)))
    jobs = client.create_many([api.JobSpec(task="work")] * 20)
    worker = make_worker(server, concurrency=1)
    delivery = worker.take()
    ticker = make_worker(server, ["one"], concurrency=1)
    first = ticker.take()
    wait_until(lambda: schedule(client, "often").runs > 0, "the schedule runs")
    disk.leave(300)
    wait_until(lambda: refuses(client), "new jobs are refused")

    # Nothing new, neither by hand nor by a schedule nor after the job that held it back.
    runs = {name: schedule(client, name).runs for name in ("often", "one")}
    with fails("RESOURCE_EXHAUSTED", reason="DISK_LOW"):
        client.RunSchedule(name="often")
    outcome, = client.CreateJobs(jobs=[api.JobSpec(task="work")]).outcomes
    assert api.Failure.of_status(outcome.error).reason == "DISK_LOW"
    ticker.succeed(first)
    wait_until(lambda: api.unix(schedule(client, "often").next_run_at) < time.time() - 3, "times pass that make no job")
    assert {name: schedule(client, name).runs for name in runs} == runs
    # What frees room, or is owed to workers, goes on.
    worker.succeed(delivery)
    assert client.wait(delivery.job_id).state == JobState.SUCCEEDED
    second = worker.take()
    assert client.PurgeQueue(name="default").purged == len(jobs) - 2
    worker.succeed(second)
    status, reasons = monitor.get(server, "/readyz")
    assert status == 503 and "disk low" in reasons

    disk.clear()
    wait_until(lambda: not refuses(client), "new jobs are taken")
    wait_until(lambda: schedule(client, "often").runs > runs["often"] and schedule(client, "one").runs > runs["one"], "the schedules run")
    # The latest of the times that were missed, not each of them.
    assert schedule(client, "often").skipped == 0
    ticker.succeed(ticker.take())


def test_on_a_full_disk_the_server_stops_and_loses_nothing(on_disk):
    server, disk = on_disk
    ids = {server.client.create().id for _ in range(50)}
    disk.leave(40)
    assert server.process.wait(SOON_S) == 70
    assert "the disk has only" in server.log() and "make room and start again" in server.log()
    # Started again too early, it says so again.
    server.spawn()
    assert server.process.wait(SOON_S) == 70
    disk.clear()
    server.start()
    assert {job.id for job in server.client.list(queues=["default"])} == ids
