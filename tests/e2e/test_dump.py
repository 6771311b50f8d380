# SPDX-License-Identifier: Apache-2.0
"""dump and load: everything that is stored, to be seen and to be made again without RocksDB."""
import collections
import json

import pytest

from harness import api
from harness.api import JobState, fails
from harness.scene import PAYLOADS, fill
from harness.tools import millrace
from harness.worker import echo


def test_all_of_it_there_and_back(server, make_server, make_worker, tmp_path):
    running = fill(server, make_worker)
    before = {name: server.client.counts(name) for name in ("done", "waiting", "held")}
    server.kill()
    first = millrace(None, "dump", server.data).out
    rows = [json.loads(line) for line in first.splitlines()]
    families = collections.Counter(row["family"] for row in rows)
    assert set(families) == {"jobs", "specs", "results", "leases", "schedules", "chains", "batches", "queues", "sessions", "meta"}
    by_task = {row["record"]["name"]: row["task"] for row in rows if row.get("kind") == "task"}
    assert {"work", "bytes", "limited"} <= set(by_task)
    # Readable: ids, payloads, states by their names.
    assert any(row["id"] == running for row in rows if row["family"] == "jobs")
    assert [row["record"]["entries"][0]["job_id"] for row in rows if row["family"] == "leases"] == [running]
    assert any(row["record"].get("payload", {}).get("json") == {"kwargs": {"x": None}} for row in rows if row["family"] == "specs")
    assert any(row["record"].get("payload", {}).get("json_text") == PAYLOADS[0] for row in rows if row["family"] == "specs")
    assert "succeeded" in {row["record"]["state"] for row in rows if row["family"] == "jobs"}

    (tmp_path / "dump").write_text(first, encoding="utf-8")
    other = make_server(start=False)
    told = millrace(None, "load", tmp_path / "dump", other.data)
    assert " 0 problems" in told.out
    assert millrace(None, "dump", other.data).out == first
    other.start()
    assert {name: other.client.counts(name) for name in before} == before
    assert [job.payload.json for job in other.client.list(queues=["done"], tasks=["work"], view=api.View.FULL)] == PAYLOADS
    assert other.client.job(other.client.list(tasks=["bytes"])[0].id).payload.data == bytes(range(256))
    with fails("ALREADY_EXISTS"):
        other.client.create("bytes", queue="waiting", unique_key=api.UniqueKey(key="u"))
    assert other.client.GetSchedule(name="nightly").schedule.spec.timing.time_zone == "Europe/Berlin"
    make_worker(other, ["waiting", "held"], handler=echo, concurrency=50)
    assert other.client.wait(running, timeout_s=60).state == JobState.SUCCEEDED


def test_one_family(server):
    server.client.create_many([api.JobSpec(task="work", queue="q")] * 3)
    server.stop()
    rows = [json.loads(line) for line in millrace(None, "dump", "--family", "specs", server.data).out.splitlines()]
    assert len(rows) == 3 and {row["family"] for row in rows} == {"specs"}
    assert "no 'nothing'" in millrace(None, "dump", "--family", "nothing", server.data, code=2).err


def test_not_of_a_store_in_use(server):
    assert "in use" in millrace(None, "dump", server.data, code=1).err


@pytest.mark.parametrize("line, text", [
    ("not json", "line 1"),
    ('{"family": "nothing"}', "family"),
    ('{"family": "ready_low", "record": {}}', "family"),
    ('{"family": "jobs", "id": "17", "record": {}}', "key"),
    ('{"family": "queues", "kind": "lane", "queue": 1, "record": {}}', "key"),
    ('{"family": "meta", "name": "marks"}', "no record"),
    ('{"family": "meta", "name": "marks", "record": {"sequence": -1}}', "sequence"),
    ('{"family": "meta", "name": "marks", "record": {"unknown": 1}}', "unknown"),
    ('{"family": "meta", "name": "store", "record": {"format": 99}}', "format"),
    pytest.param("[" * 500, "deep", id="deep"),
    ('{"family": "chains", "id": "0198e6a0-0000-7000-8000-000000000001", "record": {}}', "format"),  # no format record
])
def test_load_refuses_in_words_and_leaves_nothing(tmp_path, line, text):
    (tmp_path / "dump").write_text(line + "\n", encoding="ascii")
    refused = millrace(None, "load", tmp_path / "dump", tmp_path / "data", code=1)
    assert text in refused.err, refused
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
