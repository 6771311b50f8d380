# SPDX-License-Identifier: Apache-2.0
"""Backups: taken while everything goes on, checked, restored; and all that can be wrong with one."""
import io
import os
import subprocess
import tarfile
import threading

import pytest

from harness import api
from harness.api import JobState, fails
from harness.server import BIN
from harness.tools import environment, millrace
from harness.wait import wait_until
from harness.worker import HOLD, echo


def restored(make_server, archive, *flags):
    """A running server on what the archive holds."""
    other = make_server(start=False)
    millrace(None, "restore", *flags, archive, other.data)
    return other.start()


def test_backup_and_restore(server, make_server, make_worker, tmp_path):
    client = server.client
    make_worker(server, ["done"], handler=echo)
    ended = client.create("work", queue="done", payload=api.json_payload('{"n": 1}'))
    client.wait(ended.id)
    client.create_many([api.JobSpec(task="work", queue="waiting", payload=api.Payload(data=b"x" * 2000))] * 500)
    archive = tmp_path / "backup.tar"
    told = millrace(server, "backup", "-o", archive, "--verify")
    assert "0 problems" in told.out and " bytes, as of 20" in told.err
    late = client.create("work", queue="waiting")
    other = restored(make_server, archive)
    assert other.client.counts("waiting") == {"pending": 500}
    job = other.client.job(ended.id)
    assert (job.state, job.result.json) == (JobState.SUCCEEDED, '{"n": 1}')
    with fails("NOT_FOUND"):
        other.client.job(late.id)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("backup")) == ["backup.tar"]
    assert not (server.data / "backup").exists()


def test_backup_under_load_is_whole_and_holds_nobody_up(server, make_server, make_worker, tmp_path):
    client = server.client
    make_worker(server, ["q"], handler=echo, concurrency=100)
    stop, acknowledged = threading.Event(), []

    def produce():
        mine = api.Client(server.target)
        while not stop.is_set():
            acknowledged.extend(mine.create_many([api.JobSpec(task="work", queue="q", payload=api.Payload(data=b"x" * 500))] * 100))
        mine.close()

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for number in range(3):
            wait_until(lambda: len(acknowledged) > 1000 * (number + 1), "some load")
            before = list(acknowledged)
            archive = tmp_path / f"backup-{number}.tar"
            millrace(server, "backup", "-o", archive, "--verify")
            other = make_server(start=False)
            millrace(None, "restore", "--no-check", archive, other.data)
            other.start()
            seen = sum(other.client.counts("q").values())
            assert seen >= len(before), "what was acknowledged before is in it"
            other.stop()
    finally:
        stop.set()
        producer.join()
    assert client.create().state == JobState.PENDING


def test_a_running_job_of_the_backup_is_given_out_again(server, make_server, make_worker, tmp_path):
    client = server.client
    make_worker(server, handler=lambda delivery: HOLD)
    job = client.create()
    server.wait_for_state(job.id, JobState.RUNNING)
    millrace(server, "backup", "-o", tmp_path / "b.tar")
    other = restored(make_server, tmp_path / "b.tar")
    make_worker(other, handler=echo)
    assert other.client.wait(job.id).state == JobState.SUCCEEDED


def test_through_a_pipe_with_ordinary_tools(server, make_server, tmp_path):
    server.client.create_many([api.JobSpec(task="work")] * 10)
    pipe = subprocess.run(f'"{BIN}/millrace" backup -o - | gzip > "{tmp_path}/b.tgz"', shell=True, check=True, env=environment(server),
                          capture_output=True)
    assert b"bytes" in pipe.stderr
    done = subprocess.run(f'tar xzf "{tmp_path}/b.tgz" && cd millrace && sha256sum -c SHA256SUMS', shell=True, check=False, cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "OK" in done.stdout, done
    other = make_server(start=False)
    millrace(None, "restore", "-", other.data, input=None, code=1)  # nothing on standard input
    subprocess.run(f'gzip -dc "{tmp_path}/b.tgz" | "{BIN}/millrace" restore - "{other.data}"', shell=True, check=True, env=environment(None))
    assert other.start().client.counts("default") == {"pending": 10}


# ---- what can be wrong with one ----

def rewrite(source, target, change):
    """The archive with each (name, content) put through `change`, which answers a list of them."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            for name, content in change(member.name, old.extractfile(member).read()):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                new.addfile(info, io.BytesIO(content))


@pytest.fixture(name="archive", scope="module")
def _archive(module_server, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "b.tar"
    module_server.client.create_many([api.JobSpec(task="work")] * 100)
    millrace(module_server, "backup", "-o", path)
    return path


def flip(name, content):
    """A flipped bit in a table."""
    return [(name, content[:40] + bytes([content[40] ^ 1]) + content[41:] if name.endswith(".sst") else content)]


@pytest.mark.parametrize("change, text", [
    (flip, "is not what was backed up"),
    (lambda name, content: [] if name.endswith("CURRENT") else [(name, content)], "CURRENT is missing"),
    (lambda name, content: [] if name.endswith("SHA256SUMS") else [(name, content)], "was cut off"),
    (lambda name, content: [(name, content), (name + ".evil", b"x")] if name.endswith("CURRENT") else [(name, content)], "does not name"),
    (lambda name, content: [("../../evil", content)], "no backup"),
    (lambda name, content: [("millrace/../evil", content)], "no backup"),
    (lambda name, content: [("/tmp/evil", content)], "no backup"),
])
def test_a_bad_archive_is_refused_and_leaves_nothing(archive, tmp_path, change, text):
    rewrite(archive, tmp_path / "bad.tar", change)
    refused = millrace(None, "restore", tmp_path / "bad.tar", tmp_path / "data", code=1)
    assert text in refused.err, refused
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]


def test_a_cut_archive_and_no_archive(archive, tmp_path):
    (tmp_path / "cut.tar").write_bytes(archive.read_bytes()[:-20000])
    millrace(None, "restore", tmp_path / "cut.tar", tmp_path / "data", code=1)
    (tmp_path / "text").write_text("no archive at all", encoding="ascii")
    millrace(None, "restore", tmp_path / "text", tmp_path / "data", code=1)
    assert not (tmp_path / "data").exists()


def test_restore_does_not_touch_what_is_there(archive, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x", encoding="ascii")
    refused = millrace(None, "restore", archive, tmp_path / "data", code=1)
    assert "not there" in refused.err and (tmp_path / "data" / "precious").exists()


# ---- limits ----

def fill(client):
    """60 MB that can't be compressed: more than a connection holds in its buffers."""
    for _ in range(20):
        client.create_many([api.JobSpec(task="work", payload=api.Payload(data=os.urandom(3000))) for _ in range(1000)])


def test_one_backup_at_a_time_and_a_reader_that_leaves(make_server):
    server = make_server()
    client = server.client
    fill(client)
    calls = [client.StreamBackup() for _ in range(2)]
    outcomes = []
    for call in calls:
        try:
            next(iter(call))
            outcomes.append("OK")
        except api.Failure as failure:
            assert "under way" in failure.message
            outcomes.append(failure.code)
    assert sorted(outcomes) == ["OK", "RESOURCE_EXHAUSTED"]
    assert client.create().state == JobState.PENDING  # while 60 MB wait to be read
    for call in calls:
        call.cancel()
    wait_until(lambda: not (server.data / "backup").exists(), "the checkpoint goes with its reader")


def test_a_stop_ends_a_backup(server):
    fill(server.client)
    call = server.client.StreamBackup()
    next(iter(call))
    server.stop()
    assert not (server.data / "backup").exists()
    call.cancel()
