# SPDX-License-Identifier: Apache-2.0
"""The monitor port, server information, health, logs and the flags that change what is promised."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

from harness import api
from harness.api import Durability, JobState, fails
from harness.monitor import get
from harness.server import BIN
from harness.wait import SANITIZED, SOON_S, wait_until
from harness.worker import echo


def test_livez_and_readyz(server):
    assert get(server, "/livez") == (200, "ok\n")
    assert get(server, "/readyz") == (200, "ok\n")


@pytest.mark.parametrize("path, method, statuses", [("/", "GET", {404}), ("/nothing", "GET", {404}), ("/livez", "POST", {400, 404, 405}),
                                                    ("/metrics", "DELETE", {404, 405})])
def test_other_pages_and_methods(shared, path, method, statuses):
    assert get(shared, path, method)[0] in statuses


def test_metrics_hold_no_payloads(server):
    server.client.create("secret_task_name", payload=api.json_payload('"hunter2"'))
    assert "hunter2" not in get(server, "/metrics")[1]


def test_server_info(server, make_worker):
    client = server.client
    make_worker(server, ["a"])
    client.create(queue="b")
    client.create(queue="a")
    wait_until(lambda: client.GetServerInfo().jobs_running == 1, "one runs")
    info = client.GetServerInfo()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", info.version)
    assert (info.durability, info.store_backend, info.store_format) == (Durability.SYNC, "rocksdb", 1)
    assert (info.queues, info.sessions, info.jobs_waiting) == (2, 1, 1)
    assert abs(api.unix(info.now) - time.time()) < 5
    assert 0 <= api.unix(info.now) - api.unix(info.started_at) < 120
    version = subprocess.run([str(BIN / "millraced"), "--version"], capture_output=True, text=True, check=True).stdout
    assert info.version in version


@pytest.mark.parametrize("flag, expected", [("none", Durability.NONE), ("interval=100", Durability.INTERVAL)])
def test_weaker_durability_is_told(make_server, make_worker, flag, expected):
    server = make_server({"--durability": flag})
    info = server.client.GetServerInfo()
    assert info.durability == expected
    if expected == Durability.INTERVAL:
        assert api.unix(info.durability_interval) == pytest.approx(0.1)
    wait_until(lambda: "durability" in server.log() and "warn" in server.log().lower(), "the warning")
    make_worker(server, handler=echo)
    assert server.client.wait(server.client.create().id).state == JobState.SUCCEEDED


# ---- health ----

def test_health_and_its_services(server):
    client = server.client
    assert client.health() == "SERVING"
    assert client.health("millrace.v1.JobService") == "SERVING"
    assert client.health("no.such.Service") in ("SERVICE_UNKNOWN", "NOT_FOUND")


def test_serving_only_after_recovery(server):
    client = server.client
    for _ in range(30):
        client.create_many([api.JobSpec(task="work", payload=api.Payload(data=b"x" * 200))] * 1000)
    server.kill()
    server.spawn()
    seen = []
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        health = client.health(timeout_s=2)
        if not seen or seen[-1] != health:
            seen.append(health)
        if health == "SERVING":
            # From the first SERVING on, everything is there.
            assert client.counts("default") == {"pending": 30_000}
            break
    assert seen[-1] == "SERVING" and set(seen[:-1]) <= {"UNAVAILABLE", "NOT_SERVING"}, seen


def test_not_ready_before_recovery_is_told_on_both_ports(server):
    server.kill()
    server.spawn()
    answers = set()
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        try:
            status, text = get(server, "/readyz")
        except OSError:
            continue
        answers.add(status)
        if status == 200:
            break
        assert text
    assert 200 in answers
    wait_until(lambda: server.client.health(timeout_s=2) == "SERVING", "serving")


@pytest.mark.skipif(SANITIZED, reason="built with a sanitizer, a server is slow")
def test_health_serving_within_two_seconds_after_a_kill(server):
    client = server.client
    for _ in range(20):
        client.create_many([api.JobSpec(task="work")] * 1000)
    server.restart()
    assert server.ready_s < 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


# ---- life ----

def test_sigterm_ends_with_0_and_says_so(server):
    server.process.terminate()
    assert server.process.wait(SOON_S) == 0
    assert "stopping" in server.log() and "stopped" in server.log()


def test_sigint_too_and_sighup_does_not(server):
    server.process.send_signal(signal.SIGHUP)
    assert server.client.create().state == JobState.PENDING
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(SOON_S) == 0


def test_logs_are_one_event_a_line_without_payloads(make_server, make_worker):
    server = make_server({"--log-format": "json", "--log-level": "debug"})
    make_worker(server, handler=echo)
    server.client.wait(server.client.create(payload=api.json_payload('"hunter2"')).id)
    server.stop()
    lines = server.log().splitlines()
    assert lines
    for line in lines:
        event = json.loads(line)
        assert {"time", "level", "event"} <= set(event), line
    assert "hunter2" not in server.log()


def test_help_is_complete(shared):
    del shared
    text = subprocess.run([str(BIN / "millraced"), "--help"], capture_output=True, text=True, check=True).stdout
    for flag in ("--listen", "--worker-listen", "--monitor-listen", "--data-dir", "--durability", "--session-timeout", "--reconnect-grace",
                 "--heartbeat", "--port-file", "--log-format", "--log-level", "--insecure", "--dev", "--advertise", "--config"):
        assert flag in text, flag


def test_dev_prints_three_lines_to_paste_and_leaves_nothing(tmp_path):
    listen = ["--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0"]
    ports = tmp_path / "ports"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with open(tmp_path / "out", "w+", encoding="utf-8") as out:
        process = subprocess.Popen([str(BIN / "millraced"), "--dev", *listen, "--port-file", str(ports)], stdout=out,
                                   stderr=subprocess.STDOUT, text=True, env=environment)
        try:
            wait_until(lambda: ports.exists() and "millrace worker run" in (tmp_path / "out").read_text(encoding="utf-8"), "what to try")
            text = (tmp_path / "out").read_text(encoding="utf-8")
            assert "millrace job create" in text
            client = api.Client(f"127.0.0.1:{json.loads(ports.read_text(encoding='utf-8'))['grpc']}")
            assert client.create().state == JobState.PENDING
            client.close()
        finally:
            process.terminate()
            assert process.wait(SOON_S) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "ports"]


def test_environment_and_key_file(make_server, tmp_path):
    server = make_server(environment={"MILLRACED_LOG_FORMAT": "json", "MILLRACED_NONSENSE": "1"})
    server.stop()
    assert all(line.startswith("{") for line in server.log().splitlines())
    assert "MILLRACED_NONSENSE" in server.log()  # unknown: a warning
    config = tmp_path / "millraced.conf"
    config.write_text("[millraced]\nnonsense = 1\n", encoding="utf-8")
    done = subprocess.run([str(BIN / "millraced"), "--config", str(config)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and "nonsense" in done.stderr


def test_a_unix_socket(make_server, tmp_path):
    path = tmp_path / "m.sock"
    server = make_server(start=False)
    server.flags["--listen"] = f"unix:{path}"
    server.start()
    client = api.Client(f"unix:{path}")
    assert client.create().state == JobState.PENDING
    client.close()


def test_checkpoint(make_server, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    server = make_server({"--checkpoint-dir": str(copies)})
    server.client.create_many([api.JobSpec(task="work")] * 100)
    path = server.client.Checkpoint(name="first").path
    assert path == str(copies / "first")
    server.client.create()
    with fails("ALREADY_EXISTS"):
        server.client.Checkpoint(name="first")
    other = make_server(start=False)
    os.rename(path, other.data)
    other.start()
    assert other.client.counts("default") == {"pending": 100}


def test_checkpoints_need_their_directory(shared):
    with fails("FAILED_PRECONDITION", text="--checkpoint-dir"):
        shared.client.Checkpoint(name="first")
