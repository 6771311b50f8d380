# SPDX-License-Identifier: Apache-2.0
"""Stores that earlier versions wrote (tests/golden) are opened by this one, and nothing in them is lost."""
import collections
import gzip
import json
import re
import tarfile

import pytest

from harness import api
from harness.api import JobState
from harness.scene import PAYLOADS
from harness.tools import millrace
from harness.worker import echo

GOLDEN = api.REPOSITORY / "tests" / "golden"
ARCHIVES = sorted(GOLDEN.glob("format-*.tar.gz"))


def expected(archive):
    """The lines of its dump, as they were told by the version that wrote it."""
    return gzip.decompress(archive.with_name(archive.name.replace(".tar.gz", ".ndjson.gz")).read_bytes()).decode()


@pytest.fixture(name="golden", params=ARCHIVES, ids=lambda path: path.name.split(".")[0])
def _golden(request, make_server, clock):
    """(server, not started, on the golden store; the dump), at the time when it was written."""
    server = make_server(clock=clock, start=False)
    with tarfile.open(request.param) as tar:
        tar.extractall(server.data)
    dump = expected(request.param)
    clock.set(max(int(found) for found in re.findall(r'"created_ms":(\d+)', dump)) / 1000 + 1)
    return server, dump


def test_there_is_one_for_the_format_of_today(shared):
    assert f"format-{shared.client.GetServerInfo().store_format}.tar.gz" in {path.name for path in ARCHIVES}


def is_same(now, then):
    """Within a format, records only gain fields; what was written before has none of them."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(is_same(now[key], then[key]) if key in then else not now[key] for key in {*now, *then})
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(is_same, now, then))
    return now == then


def test_it_checks_clean_and_tells_the_same(golden):
    server, dump = golden
    checked = server.check()
    assert checked.returncode == 0, checked
    told = millrace(None, "dump", server.data).out.splitlines()
    assert len(told) == len(dump.splitlines())
    for now, then in zip(told, dump.splitlines()):
        assert is_same(json.loads(now), json.loads(then)), f"now: {now}\nthen: {then}"


def test_a_server_goes_on_with_it(golden, make_worker):
    server, dump = golden
    rows = [json.loads(line) for line in dump.splitlines()]
    states = collections.Counter(row["record"]["state"] for row in rows if row["family"] == "jobs")
    running = next(row["record"]["entries"][0]["job_id"] for row in rows if row["family"] == "leases")
    server.start()
    client = server.client
    total = collections.Counter()
    for queue in ("early", "done", "waiting", "held"):
        total.update(client.counts(queue))
    assert total["succeeded"] == states["succeeded"] and total["blocked"] == states["blocked"]
    assert total["pending"] + total["running"] + total["scheduled"] + total["retrying"] == states["pending"] + states["scheduled"] + \
        states["parked"]
    assert sorted(job.payload.json for job in client.list(queues=["done"], tasks=["work"], view=api.View.FULL)) == sorted(PAYLOADS)
    assert client.GetSchedule(name="nightly").schedule.spec.timing.time_zone == "Europe/Berlin"
    make_worker(server, ["waiting", "held"], handler=echo, concurrency=50)
    assert client.wait(running, timeout_s=60).state == JobState.SUCCEEDED
