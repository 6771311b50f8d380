# SPDX-License-Identifier: Apache-2.0
"""millraced killed -9 under load, again and again; and a disk that lies.

The ledger stands outside: what the server acknowledged is written and synced there before anything else happens, and at the end every
line of it must have come true."""
import collections
import os
import random
import re
import threading
import time

import pytest

from harness import api
from harness.api import AttemptOutcome, BackoffKind, BatchState, ChainState, JobState
from harness.wait import SOON_S, wait_until
from harness.worker import Worker

ROUNDS = int(os.environ.get("MILLRACE_KILLS", "50"))
PATIENT = api.RetryPolicy(max_attempts=1000, kind=BackoffKind.CONSTANT, initial=api.seconds(0.05))
SEED = int(os.environ.get("MILLRACE_SEED", random.randrange(1 << 30)))


class Ledger:
    """Acknowledged facts, each on the disk before the writer goes on."""

    def __init__(self, path):
        self._file = open(path, "a", encoding="ascii", buffering=1)  # pylint: disable=consider-using-with
        self._lock = threading.Lock()
        self.entries = collections.defaultdict(list)

    def write(self, kind, *words):
        """One fact."""
        with self._lock:
            self._file.write(" ".join((kind, *words)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.entries[kind].extend(words)


class Load:
    """Producers and workers that go on through every crash as proper clients do."""

    def __init__(self, server, ledger):
        self.server = server
        self.ledger = ledger
        self.stop_producing = threading.Event()
        self.stop_working = threading.Event()
        self.problems = []
        self.runs = collections.Counter()
        self.threads = [threading.Thread(target=self._guard, args=(target,), daemon=True)
                        for target in (self._single, self._bulk, self._chains, self._batches, self._work, self._work)]
        self.producers = self.threads[:4]

    def start(self):
        """Goes."""
        for thread in self.threads:
            thread.start()

    def _guard(self, target):
        client = api.Client(self.server.target)
        try:
            target(client)
        except Exception as error:  # pylint: disable=broad-except
            self.problems.append(error)
        finally:
            client.close()

    def _until_answered(self, call):
        """Sends the same request again until somebody answers: safe, because it carries its ids."""
        while True:
            try:
                return call()
            except api.Failure as failure:
                if failure.code not in ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"):
                    raise
                time.sleep(0.01)

    def _spec(self, **fields):
        return api.JobSpec(id=api.new_id(), task="work", retry_policy=PATIENT, **fields)

    def _single(self, client):
        while not self.stop_producing.is_set():
            spec = self._spec(payload=api.json_payload('"' + "s" * 200 + '"'))
            self._until_answered(lambda s=spec: client.CreateJob(job=s, timeout_s=5))
            self.ledger.write("job", spec.id)

    def _bulk(self, client):
        while not self.stop_producing.is_set():
            specs = [self._spec(priority=(1, 5, 8, 10)[n % 4], delay=api.seconds(0.2 if n % 5 == 0 else 0)) for n in range(40)]
            for outcome in self._until_answered(lambda s=specs: client.CreateJobs(jobs=s, timeout_s=5)).outcomes:
                assert not outcome.HasField("error"), outcome
            self.ledger.write("job", *(s.id for s in specs))
            time.sleep(0.01)

    def _chains(self, client):
        while not self.stop_producing.is_set():
            chain_id, steps = api.new_id(), [self._spec(wants_previous_result=True) for _ in range(3)]
            self._until_answered(lambda c=chain_id, s=steps: client.CreateChain(id=c, steps=s, timeout_s=5))
            self.ledger.write("chain", chain_id)
            time.sleep(0.05)

    def _batches(self, client):
        while not self.stop_producing.is_set():
            batch_id, items = api.new_id(), [self._spec() for _ in range(60)]
            done = api.JobSpec(task="work", queue="callbacks", retry_policy=PATIENT)
            self._until_answered(lambda b=batch_id, d=done: client.CreateBatch(id=b, on_complete=d, timeout_s=5))
            for number in (1, 2, 3):
                chunk = api.AddBatchItemsRequest(batch_id=batch_id, chunk=number, items=items[number * 20 - 20:number * 20], last=number == 3)
                self._until_answered(lambda c=chunk: list(client.AddBatchItems(iter([c]), timeout_s=5)))
            self.ledger.write("batch", batch_id)
            time.sleep(0.05)

    def _handle(self, delivery):
        self.runs[(delivery.job_id, delivery.delivery)] += 1
        return f'"{delivery.job_id}"'

    def _work(self, client):
        del client
        worker = None
        while not self.stop_working.is_set():
            try:
                if worker is None:
                    worker = Worker(self.server, ["default", "callbacks"], concurrency=50, handler=self._handle)
                elif worker.is_closed():
                    try:
                        worker.resume()
                        worker.connect()
                    except api.Failure as failure:
                        if failure.code == "NOT_FOUND":
                            worker.vanish()
                            worker = None
            except Exception:  # pylint: disable=broad-except
                pass  # the server is down; try again
            time.sleep(0.02)
        if worker:
            worker.close()


@pytest.mark.timeout(900)
def test_fifty_kills_under_load(make_server, tmp_path):
    server = make_server({"--reconnect-grace": "5s", "--session-timeout": "10s"})
    client = server.client
    ledger = Ledger(tmp_path / "ledger")
    load = Load(server, ledger)
    chance = random.Random(SEED)
    load.start()
    for _ in range(ROUNDS):
        time.sleep(chance.uniform(0.02, 0.4))  # not to pass: to be killed at another moment each time
        server.kill()
        server.start()
        assert not load.problems, f"{load.problems}\nseed {SEED}"
    load.stop_producing.set()
    for thread in load.producers:
        thread.join(SOON_S)
    assert not load.problems, f"{load.problems}\nseed {SEED}"
    jobs = ledger.entries["job"]
    print(f"seed {SEED}: {len(jobs)} jobs, {len(ledger.entries['chain'])} chains, {len(ledger.entries['batch'])} batches, {ROUNDS} kills")
    assert jobs and ledger.entries["chain"] and ledger.entries["batch"]

    # Every acknowledged job ends, and nothing else is left.
    def at_rest():
        counts = {q.name: {f.name: v for f, v in q.counts.ListFields()} for q in client.ListQueues().queues}
        assert all(set(c) <= {"succeeded"} for c in counts.values()), (counts, client.ListWorkers().workers)
        return counts

    counts = wait_until(at_rest, f"all have succeeded (seed {SEED})", 180, 0.2)
    load.stop_working.set()
    for thread in load.threads:
        thread.join(SOON_S)
    # None is lost, none succeeds twice.
    listed = {}
    for queue in ("default", "callbacks"):
        for job in client.list(queues=[queue]):
            assert job.id not in listed, f"{job.id} is there twice"
            listed[job.id] = job
    lost = [job_id for job_id in jobs if job_id not in listed]
    assert not lost, f"seed {SEED}: {len(lost)} acknowledged jobs are gone, such as {lost[:3]}"
    assert sum(c["succeeded"] for c in counts.values()) == len(listed)
    for job_id in jobs:
        job = listed[job_id]
        assert job.state == JobState.SUCCEEDED and job.attempts == 1, f"seed {SEED}: {job}"
    for job_id in chance.sample(jobs, min(500, len(jobs))):
        job = client.job(job_id)
        assert [a.outcome for a in job.history].count(AttemptOutcome.SUCCEEDED) == 1
        assert job.result.json == f'"{job_id}"'
    for chain_id in ledger.entries["chain"]:
        assert client.GetChain(id=chain_id).chain.state == ChainState.SUCCEEDED
    callbacks = {job_id for job_id, job in listed.items() if job.queue == "callbacks"}
    for batch_id in ledger.entries["batch"]:
        batch = client.GetBatch(id=batch_id).batch
        assert (batch.state, batch.total, batch.succeeded) == (BatchState.SUCCEEDED, 60, 60)
        assert batch.on_complete_job_id in callbacks
        callbacks.discard(batch.on_complete_job_id)
    # A batch whose last answer was not heard may be there too, with its own callback; each has one at most.
    assert len(callbacks) <= 1


@pytest.mark.timeout(300)
def test_jobs_running_through_restarts_complete_without_running_again(make_server):
    server = make_server({"--reconnect-grace": "20s", "--session-timeout": "30s"})
    client = server.client
    workers = [Worker(server, concurrency=100, transport=t) for t in ("ws", "ws", "grpc")]
    try:
        ids = client.create_many([api.JobSpec(task="work", retry_policy=PATIENT)] * 300)
        held = [worker.take_many(100) for worker in workers]
        for round_ in range(5):
            server.kill()
            for worker, deliveries in zip(workers, held):  # some end while the server is down
                for delivery in deliveries[round_ * 10:round_ * 10 + 10]:
                    worker.succeed(delivery, wait=False)
            server.start()
            for worker in workers:
                worker.reconnect()
        for worker, deliveries in zip(workers, held):
            for delivery in deliveries[50:]:
                worker.succeed(delivery, wait=False)
        for job_id in ids:
            job = client.wait(job_id)
            assert (job.state, job.deliveries, job.lost_count) == (JobState.SUCCEEDED, 1, 0)
        assert all(set(w.taken.values()) == {1} for w in workers)
    finally:
        for worker in workers:
            worker.close()


def test_what_was_acknowledged_is_there_after_each_kind_of_change(server):
    """One kill right after the answer, for each call that changes something."""
    client = server.client
    spec = api.JobSpec(task="work")
    made = {}

    def after_a_kill(change, look):
        answer = change()
        server.restart()
        assert look(answer), f"{change}: {answer}"

    after_a_kill(lambda: client.create(), lambda j: client.job(j.id).state == JobState.PENDING)
    after_a_kill(lambda: made.setdefault("x", client.create(delay=api.seconds(600))), lambda j: client.job(j.id).state == JobState.SCHEDULED)
    after_a_kill(lambda: client.UpdateJob(id=made["x"].id, priority=10), lambda a: client.job(a.job.id).priority == 10)
    after_a_kill(lambda: client.CancelJob(id=made["x"].id), lambda a: client.job(a.job.id).state == JobState.CANCELLED)
    after_a_kill(lambda: client.RetryJob(id=made["x"].id), lambda a: client.job(a.job.id).generation == 2)
    after_a_kill(lambda: client.CreateChain(steps=[spec, spec]), lambda a: client.GetChain(id=a.chain.id).chain.state == ChainState.RUNNING)
    after_a_kill(lambda: client.CreateBatch(items=[spec] * 3, seal=True), lambda a: client.GetBatch(id=a.batch.id).batch.total == 3)
    after_a_kill(lambda: client.PauseQueue(name="default"), lambda a: client.GetQueue(name="default").queue.paused)
    after_a_kill(lambda: client.CreateSchedule(schedule=api.ScheduleSpec(
        name="s", timing=api.ScheduleTiming(cron="0 9 * * *"), job=spec)), lambda a: client.GetSchedule(name="s").schedule == a.schedule)
    after_a_kill(lambda: client.DeleteSchedule(name="s"), lambda a: not client.ListSchedules().schedules)
    after_a_kill(lambda: client.PurgeQueue(name="default"), lambda a: client.counts("default").get("pending", 0) == 0 and a.purged == 6)


# ---- a disk that lies ----

def logs_of(server):
    """RocksDB's write-ahead logs, oldest first."""
    return sorted((p for p in server.data.rglob("*.log") if p.stem.isdigit()), key=lambda p: int(p.stem))


def flip_a_bit(server):
    """In the middle of the log, where records stand."""
    path = logs_of(server)[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def truncate(server):
    """Half of the log is gone."""
    path = logs_of(server)[-1]
    os.truncate(path, path.stat().st_size // 2)


def delete(server):
    """The whole log is gone."""
    logs_of(server)[-1].unlink()


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, delete])
def test_damage_is_refused_with_the_number_of_missing_writes(make_server, damage):
    server = make_server()
    client = server.client
    ids = [client.create().id for _ in range(400)]
    server.kill()
    damage(server)
    server.spawn()
    code = server.process.wait(SOON_S)
    log = server.log()
    assert code not in (0, -6, -11), log
    missing = re.search(r"misses (\d+) writes", log)
    assert missing and int(missing[1]) > 0, log
    assert "millrace repair --accept-loss" in log, log
    # A second start says the same: nothing was repaired behind our back.
    server.spawn()
    assert server.process.wait(SOON_S) == code
    assert server.repair().returncode == 2
    repaired = server.repair("--accept-loss")
    assert repaired.returncode == 0, repaired
    assert server.check().returncode == 0
    server.start()
    left = [i for i in ids if any(j.id == i for j in client.list(ids=[i]))]
    assert len(left) < 400
    # What is left is a beginning: never a hole in the middle.
    assert left == ids[:len(left)]
    assert client.create().state == JobState.PENDING


def test_a_torn_tail_that_was_never_acknowledged_is_no_damage(make_server):
    """Bytes after the last synced write may be torn by any crash: the server starts."""
    server = make_server()
    ids = [server.client.create().id for _ in range(50)]
    server.kill()
    with open(logs_of(server)[-1], "ab") as log:
        log.write(b"\x17\x2a" * 20)
    server.start()
    assert {j.id for j in server.client.list(queues=["default"])} == set(ids)


def test_a_store_of_another_format_is_refused(make_server):
    server = make_server()
    server.stop()
    (server.data / "CURRENT").write_text("nonsense\n", encoding="ascii")
    server.spawn()
    assert server.process.wait(SOON_S) not in (0, -6, -11)
    assert str(server.data) in server.log()
    server.check_on_exit = False
    server.process = None
