# SPDX-License-Identifier: Apache-2.0
"""Foreign tools: grpcurl without our protos, and a plain WebSocket client without nng."""
import asyncio
import fcntl
import json
import os
import pathlib
import re
import subprocess
import tempfile

import pytest
import websockets

from harness import api
from harness.api import JobState
from harness.tools import find_program
from harness.wait import wait_until
from harness.worker import run

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.1"


@pytest.fixture(scope="session")
def grpcurl():
    """Path of grpcurl: the one installed, or built once into a cache."""
    found = find_program("grpcurl")
    if found:
        return found
    cache = pathlib.Path(os.environ.get("MILLRACE_TEST_CACHE", pathlib.Path(tempfile.gettempdir()) / f"millrace-e2e-{os.getuid()}"))
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = cache / "bin" / "grpcurl"
    with open(cache / "grpcurl.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            if find_program("go") is None:
                if os.environ.get("CI") == "true":
                    pytest.fail("needs Go to build grpcurl")
                pytest.skip("needs grpcurl, or Go to build it")
            built = subprocess.run(["go", "install", GRPCURL], env={**os.environ, "GOBIN": str(cache / "bin")}, capture_output=True,
                                   text=True, timeout=900, check=False)
            assert built.returncode == 0, built.stderr
    return str(program)


@pytest.fixture
def curl(shared, grpcurl):
    """Calls grpcurl: curl("method", {request})."""
    def call(method, request=None, code=0):
        command = [grpcurl, "-plaintext"]
        if request is not None:
            command += ["-d", json.dumps(request)]
        done = subprocess.run([*command, shared.target, *method.split()], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done
        return done.stdout if code == 0 and not done.stdout.startswith("{") else json.loads(done.stdout) if code == 0 else done.stderr
    return call


@pytest.mark.timeout(900)
def test_lists_and_describes_without_our_protos(curl):
    services = curl("list").split()
    assert {f"millrace.v1.{s}Service" for s in ("Job", "Schedule", "Chain", "Batch", "Queue", "Worker", "Admin")} <= set(services)
    assert "grpc.health.v1.Health" in services
    assert any(s.startswith("grpc.reflection.v1") for s in services)
    methods = curl("list millrace.v1.JobService").split()
    assert len(methods) == 13
    assert "rpc CreateJob" in curl("describe millrace.v1.JobService")
    assert "string task = 2" in curl("describe millrace.v1.JobSpec")
    assert "field_violations" in curl("describe google.rpc.BadRequest")
    assert "retry_delay" in curl("describe google.rpc.RetryInfo")
    curl("describe no.such.Thing", code=1)


@pytest.mark.timeout(900)
def test_creates_waits_for_and_cancels_a_job(curl, shared, make_worker, queue):
    created = curl("millrace.v1.JobService/CreateJob", {"job": {"task": "send", "queue": queue, "priority": "JOB_PRIORITY_HIGH",
                                                               "payload": {"json": '{"to": "a"}'}}})
    job_id = created["job"]["id"]
    assert created["job"]["state"] == "JOB_STATE_PENDING"
    waited = curl("millrace.v1.JobService/WaitJob", {"id": job_id, "timeout": "0.1s"})
    assert waited["timedOut"] is True
    cancelled = curl("millrace.v1.JobService/CancelJob", {"id": job_id})
    assert cancelled["accepted"] and cancelled["job"]["state"] == "JOB_STATE_CANCELLED"
    worker = make_worker(shared, [queue])
    other = curl("millrace.v1.JobService/CreateJob", {"job": {"task": "send", "queue": queue}})["job"]["id"]
    worker.succeed(worker.take(), '"done"')
    ended = curl("millrace.v1.JobService/WaitJob", {"id": other})
    assert (ended["job"]["state"], ended["job"]["result"]["json"]) == ("JOB_STATE_SUCCEEDED", '"done"')
    refused = curl("millrace.v1.JobService/CreateJob", {"job": {"task": "a b"}}, code=67)
    assert "InvalidArgument" in refused and "job.task" in refused
    assert curl("grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}


def blocks_of(path):
    """Fenced sh blocks: (line, script, expected texts, exit code)."""
    found = []
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```sh\n(.*?)^```$", text, re.M | re.S):
        lines = match[1].splitlines()
        expected = [line[len("# expect: "):] for line in lines if line.startswith("# expect: ")]
        code = next((int(line.split()[-1]) for line in lines if line.startswith("# exit: ")), 0)
        script = "\n".join(line for line in lines if not line.startswith(("# expect: ", "# exit: ")))
        found.append((text[:match.start()].count("\n") + 1, script, expected, code))
    return found


@pytest.mark.timeout(900)
def test_the_page_about_grpcurl_is_true(server, grpcurl):
    page = api.REPOSITORY / "docs" / "grpcurl.md"
    blocks = blocks_of(page)
    assert len(blocks) >= 10
    environment = {**os.environ, "PATH": f"{pathlib.Path(grpcurl).parent}:{os.environ['PATH']}"}
    for line, script, expected, code in blocks:
        script = script.replace("localhost:7070", server.target)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=60, check=False)
        seen = done.stdout + done.stderr
        assert done.returncode == code, f"{page.name}:{line}: exit {done.returncode}\n{seen}"
        for text in expected:
            assert text in seen, f"{page.name}:{line}: no {text!r} in\n{seen}"


# ---- a plain WebSocket client ----

def test_a_plain_websocket_client_without_nng_runs_a_job(shared, queue):
    """The whole protocol by hand, as somebody would write it in a language without nng, from docs/api.md alone."""
    client = shared.client
    registered = client.Register(queues=[api.WorkerQueue(name=queue)], tasks=[api.WorkerTask(name="work")], concurrency=1)
    job = client.create(queue=queue, payload=api.json_payload("[1]"))
    base = f"{registered.scheme}://127.0.0.1:{registered.port}"
    header = {"Authorization": f"Bearer {registered.session_token}"}

    async def work():
        async with websockets.connect(base + registered.jobs_path, subprotocols=["push.sp.nanomsg.org"], extra_headers=header) as jobs, \
                websockets.connect(base + registered.reports_path, subprotocols=["pull.sp.nanomsg.org"], extra_headers=header) as reports:
            await reports.send(api.Reports(heartbeat=api.Heartbeat()).SerializeToString())
            while True:
                message = api.Deliveries.FromString(await asyncio.wait_for(jobs.recv(), 20))
                if message.deliveries:
                    break
            (delivery,) = message.deliveries
            report = api.Report(job_id=delivery.job_id, delivery=delivery.delivery)
            report.succeeded.result.json = delivery.payload.json
            await reports.send(api.Reports(report_seq=1, reports=[report]).SerializeToString())
            while message.accepted_report_seq < 1:
                message = api.Deliveries.FromString(await asyncio.wait_for(jobs.recv(), 20))

    run(work(), 60)
    ended = client.wait(job.id)
    assert (ended.state, ended.result.json) == (JobState.SUCCEEDED, "[1]")
    client.Deregister(session_id=registered.session_id, session_token=registered.session_token)


@pytest.mark.parametrize("path, protocol", [("jobs", "pull.sp.nanomsg.org"), ("reports", "push.sp.nanomsg.org"), ("jobs", None),
                                            ("jobs", "chat")])
def test_the_wrong_subprotocol_is_refused(shared, queue, path, protocol):
    registered = shared.client.Register(queues=[api.WorkerQueue(name=queue)], tasks=[api.WorkerTask(name="work")], concurrency=1)
    url = f"ws://127.0.0.1:{registered.port}" + (registered.jobs_path if path == "jobs" else registered.reports_path)

    async def dial():
        async with websockets.connect(url, subprotocols=[protocol] if protocol else None,
                                      extra_headers={"Authorization": f"Bearer {registered.session_token}"}) as socket:
            await asyncio.wait_for(socket.recv(), 20)

    with pytest.raises((websockets.WebSocketException, OSError)):
        run(dial(), 60)
    assert shared.client.health() == "SERVING"


def test_health_watch_tells_the_stop(server):
    """The standard health service streams too: NOT_SERVING comes before the connection goes."""
    channel = server.client._channel  # pylint: disable=protected-access
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request_serializer=lambda m: m.SerializeToString(),
                                 response_deserializer=api.HealthCheckResponse.FromString)(api.HealthCheckRequest(), timeout=60)
    seen = [next(watch).status]
    assert seen == [1]
    server.process.terminate()
    try:
        for message in watch:
            seen.append(message.status)
    except Exception:  # pylint: disable=broad-except
        pass  # the connection goes at the end
    assert seen[1:] == [2]
    wait_until(lambda: not server.is_alive(), "it stops")
