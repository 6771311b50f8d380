# SPDX-License-Identifier: Apache-2.0
"""An upgrade as it is done: SIGTERM under load, and a new process on the same ports and data. Real worker processes, of both
transports, go on with what they run; producers meet UNAVAILABLE at most."""
import collections
import itertools
import statistics
import threading
import time

import pytest

from harness import api
from harness.api import JobState
from harness.wait import SOON_S, wait_until

UPGRADES = 4
# As `millraced` has it unless told otherwise: the harness makes them short.
AS_SHIPPED = {"--session-timeout": None, "--reconnect-grace": None, "--heartbeat": None}
QUICK = "echo $MILLRACE_JOB_ID $MILLRACE_DELIVERY >>{runs}; sleep 0.1"
LONG = "echo $MILLRACE_JOB_ID $MILLRACE_DELIVERY >>{runs}; sleep 5"


class Producer:
    """Creates jobs one after the other and keeps what was acknowledged, and when."""

    def __init__(self, target):
        self.acknowledged = []  # (id, monotonic time)
        self.refused = collections.Counter()
        self.problem = None
        self._stop = threading.Event()
        self._client = api.Client(target)
        self._thread = threading.Thread(target=self._guard, daemon=True)
        self._thread.start()

    def _guard(self):
        try:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                self._create(api.JobSpec(id=api.new_id(), task="long" if number % 30 == 0 else "quick"))
                self._stop.wait(0.05)  # a load that the workers can follow
        except Exception as error:  # pylint: disable=broad-except
            self.problem = error

    def _create(self, spec):
        """As a client library does it: again with the same id, on UNAVAILABLE alone."""
        while True:
            try:
                self._client.CreateJob(job=spec)
                self.acknowledged.append((spec.id, time.monotonic()))
                return
            except api.Failure as failure:
                self.refused[failure.code] += 1
                if failure.code != "UNAVAILABLE":
                    raise
                time.sleep(0.01)

    def stop(self):
        """Ends it after the create at hand."""
        self._stop.set()
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
        self._client.close()
        assert self.problem is None, self.problem


def pauses(acknowledged, stops, downtimes):
    """For each upgrade, the longest time that producers were without an acknowledgement."""
    times = sorted(when for _, when in acknowledged)
    gaps = list(zip(times, times[1:]))
    return [max(after - before for before, after in gaps if after > begin and before < begin + down)
            for begin, down in zip(stops, downtimes)]


@pytest.mark.timeout(600)
def test_upgrades_under_load_lose_and_repeat_nothing(make_server, make_process_worker, tmp_path):
    server = make_server(AS_SHIPPED)
    client = server.client
    runs = tmp_path / "runs"
    runs.touch()
    handlers = {"quick": QUICK.format(runs=runs), "long": LONG.format(runs=runs)}
    workers = [make_process_worker(server, handlers, "--concurrency", "8", "--quiet", "--transport", transport)
               for transport in ("nng", "grpc")]
    workers[0].wait_attached(client, sessions=2)
    sessions = {worker.session_id for worker in client.ListWorkers().workers}
    producers = [Producer(server.target) for _ in range(2)]
    stops, downtimes = [], []

    def under_load(done):
        assert [producer.problem for producer in producers] == [None, None]
        return client.counts("default").get("succeeded", 0) >= done + 20 and client.GetServerInfo().jobs_running >= 2

    for _ in range(UPGRADES):
        done = client.counts("default").get("succeeded", 0)
        wait_until(lambda d=done: under_load(d), "load before the upgrade", 60)
        stops.append(time.monotonic())
        server.restart(kill=False)
        downtimes.append(time.monotonic() - stops[-1])
        workers[0].wait_attached(client, sessions=2)
    for producer in producers:
        producer.stop()
    acknowledged = [entry for producer in producers for entry in producer.acknowledged]
    refused = sum((producer.refused for producer in producers), collections.Counter())
    wait_until(lambda: client.counts("default") == {"succeeded": len(acknowledged)}, "all have succeeded", 180, 0.2)

    # Nothing lost: each is there. Nothing repeated: one delivery, one run of its program, no loss.
    jobs = {job.id: job for job in client.list(queues=["default"])}
    assert set(jobs) == {job_id for job_id, _ in acknowledged}
    for job in jobs.values():
        assert (job.state, job.attempts, job.deliveries, job.lost_count) == (JobState.SUCCEEDED, 1, 1, 0), job
    ran = collections.Counter(line.split()[0] for line in runs.read_text(encoding="ascii").splitlines())
    assert ran == collections.Counter(list(jobs))
    # Workers reattached to their sessions, and jobs ran through.
    assert {worker.session_id for worker in client.ListWorkers().workers} == sessions
    began = [time.time() - (time.monotonic() - stop) for stop in stops]
    through = [job for job in jobs.values() for begin, down in zip(began, downtimes)
               if api.unix(job.started_at) < begin and api.unix(job.finished_at) > begin + down]
    assert through, "no job ran through an upgrade"
    assert set(refused) <= {"UNAVAILABLE"}
    paused = pauses(acknowledged, stops, downtimes)
    print(f"{len(jobs)} jobs, {len(through)} of them through an upgrade, {sum(refused.values())} calls refused with UNAVAILABLE; seconds from "
          f"SIGTERM to serving: {', '.join(f'{d:.2f}' for d in downtimes)}; longest pauses of the producers: "
          f"{', '.join(f'{p:.2f}' for p in paused)}; median {statistics.median(paused):.2f}")


@pytest.mark.timeout(300)
def test_a_stop_amid_a_storm_of_calls_is_unavailable_to_all(make_server):
    server = make_server()
    outcomes = collections.Counter()
    lock = threading.Lock()
    stop = threading.Event()

    def storm():
        client = api.Client(server.target)
        create = client._channel.unary_unary(api.METHODS["CreateJob"][0])  # pylint: disable=protected-access
        window = collections.deque()
        while not stop.is_set():
            window.append(create.future(api.CreateJobRequest(job=api.JobSpec(task="work")).SerializeToString(), timeout=60))
            if len(window) == 100:
                code = window.popleft().code().name
                with lock:
                    outcomes[code] += 1
        for call in window:
            with lock:
                outcomes[call.code().name] += 1
        client.close()

    threads = [threading.Thread(target=storm, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        done = outcomes["OK"]
        wait_until(lambda d=done: outcomes["OK"] > d + 500, "calls are answered", 60)
        server.restart(kill=False)
    stop.set()
    for thread in threads:
        thread.join(SOON_S)
    assert set(outcomes) == {"OK", "UNAVAILABLE"}, outcomes
    assert server.client.counts("default")["pending"] >= outcomes["OK"]
