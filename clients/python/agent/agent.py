# SPDX-License-Identifier: Apache-2.0
"""The Python client's agent: carries out the commands of tests/e2e/scenarios/README.md."""

import argparse
import asyncio
import base64
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from codec import ReverseCodec

import millrace
from millrace import (
    AlreadyExists,
    Batch,
    Chain,
    Client,
    ConcurrencyKey,
    CreateOutcome,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    Job,
    JobExists,
    JobFilter,
    JobNotFound,
    JobSpec,
    MillraceError,
    NotFound,
    PermissionDenied,
    Queue,
    QueueFull,
    ResourceExhausted,
    RetryPolicy,
    Schedule,
    ScheduleSpec,
    Unauthenticated,
    Unavailable,
    UniqueKey,
    WaitTimeout,
    Worker,
)

KINDS: list[tuple[type[MillraceError], str]] = [  # the first that fits
    (JobNotFound, "job_not_found"),
    (NotFound, "not_found"),
    (JobExists, "job_exists"),
    (AlreadyExists, "already_exists"),
    (InvalidArgument, "invalid_argument"),
    (QueueFull, "queue_full"),
    (ResourceExhausted, "resource_exhausted"),
    (FailedPrecondition, "failed_precondition"),
    (WaitTimeout, "wait_timeout"),
    (Unavailable, "unavailable"),
    (DeadlineExceeded, "deadline_exceeded"),
    (Unauthenticated, "unauthenticated"),
    (PermissionDenied, "permission_denied"),
]
SPECIAL = {"nan": float("nan"), "infinity": float("inf")}
Fields = dict[str, Any]


# ---- values in ----


def to_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def to_spec(fields: Fields) -> JobSpec:
    same = ("task", "id", "queue", "priority", "delay", "expires_in", "total_timeout", "attempt_timeout", "labels", "retention")
    known: Fields = {name: fields[name] for name in (*same, "traceparent", "wants_previous_result") if name in fields}
    for name in ("run_at", "expires_at"):
        if name in fields:
            known[name] = to_time(fields[name])
    if "payload" in fields:
        payload = fields["payload"]
        if "json" in payload:
            known["payload"] = payload["json"]
        elif "data" in payload:
            known["payload"] = base64.b64decode(payload["data"])
        else:
            known["payload"] = {"value": SPECIAL[payload["special"]]}
    if "retry" in fields:
        known["retry"] = RetryPolicy(**fields["retry"])
    if "unique" in fields:
        unique = dict(fields["unique"])
        known["unique"] = UniqueKey(return_existing=unique.pop("rule", "reject") == "return_existing", **unique)
    if "concurrency" in fields:
        known["concurrency"] = ConcurrencyKey(**fields["concurrency"])
    return JobSpec(**known)


def to_specs(fields: Fields, name: str) -> list[JobSpec]:
    return [to_spec(spec) for spec in fields.get(name, ())]


def to_maybe_spec(fields: Fields, name: str) -> JobSpec | None:
    return to_spec(fields[name]) if name in fields else None


def to_schedule(fields: Fields) -> ScheduleSpec:
    known = dict(fields)
    for name in ("start_at", "end_at"):
        if name in known:
            known[name] = to_time(known[name])
    return ScheduleSpec(**{**known, "job": to_spec(fields["job"])})


# ---- values out ----


def from_value(value: Any) -> Fields:
    return {"data": base64.b64encode(value).decode()} if isinstance(value, bytes) else {"json": value}


def from_time(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time is not None else None


def without_none(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def from_error(error: millrace.JobError | None) -> Fields | None:
    return {name: getattr(error, name) for name in ("type", "message", "trace", "fingerprint")} if error is not None else None


def from_job(job: Job, codec: Any, *, whole: bool = False) -> Fields:
    same = ("id", "task", "queue", "state", "waiting_reason", "cancel_requested", "generation", "attempts", "max_attempts", "deliveries")
    known = {name: getattr(job, name) for name in (*same, "result_omitted_reason", "chain_id", "batch_id", "schedule_name")}
    known.update(
        {
            "priority": int(job.priority),
            "labels": dict(job.labels),
            "error": from_error(job.error),
            "progress": job.progress.fraction if job.progress else None,
            "progress_message": job.progress.message if job.progress else None,
        }
    )
    known.update({name: from_time(getattr(job, name)) for name in ("run_at", "started_at", "finished_at")})
    known = {name: value for name, value in known.items() if value not in (None, "")}
    if whole:
        if job.payload is not None and not job.payload.is_empty:
            known["payload"] = from_value(millrace.payload.decode(job.payload, codec))
        if job.result_payload is not None:
            known["result"] = from_value(job.result)
    return known


def from_chain(chain: Chain) -> Fields:
    known = {name: getattr(chain, name) for name in ("id", "state", "job_ids", "succeeded", "current_step", "on_failure_job_id")}
    result = from_value(chain.result) if chain.result_payload is not None else None
    return without_none({**known, "error": from_error(chain.error), "result": result})


def from_batch(batch: Batch) -> Fields:
    counts = ("total", "pending", "succeeded", "failed", "cancelled", "expired")
    return {name: getattr(batch, name) for name in ("id", "state", *counts, "on_success_job_id", "on_complete_job_id")}


def from_schedule(schedule: Schedule) -> Fields:
    known = {
        name: getattr(schedule, name) for name in ("name", "cron", "time_zone", "owner", "paused", "last_job_id", "runs", "task", "queue")
    }
    interval = schedule.interval.total_seconds() if schedule.interval is not None else None
    times = {name: from_time(getattr(schedule, name)) for name in ("next_run_at", "last_run_at")}
    return without_none({**known, **times, "interval": interval})


def from_queue(queue: Queue) -> Fields:
    counts = {name: getattr(queue.counts, name) for name in queue.counts.__slots__}
    return {"name": queue.name, "paused": queue.paused, "workers": queue.workers, "counts": counts}


def from_outcome(outcome: CreateOutcome) -> Fields:
    return without_none(
        {"id": outcome.id, "existing": outcome.existing, "error": from_fault(outcome.error) if outcome.error is not None else None}
    )


def from_fault(error: Exception) -> Fields:
    kind = next((kind for known, kind in KINDS if isinstance(error, known)), "internal")
    fault: Fields = {"kind": kind, "message": str(error) or repr(error)}
    if isinstance(error, MillraceError) and error.field:
        fault["field"] = error.field
    if isinstance(error, JobExists) and error.job_id:
        fault["job_id"] = error.job_id
    return fault


# ---- commands ----


class Agent:
    def __init__(self, transport: str) -> None:
        self._transport = transport
        self._codec: ReverseCodec | None = None
        self._client = Client()
        self._worker: Worker | None = None
        self._working: asyncio.Task[None] | None = None

    async def answer(self, command: Fields, write: Callable[[Fields], None]) -> None:
        number, name = command.pop("number"), command.pop("command")
        method = getattr(self, f"do_{name}", None)
        try:
            if method is None:
                write({"number": number, "error": {"kind": "unsupported", "message": f"there is no command {name}"}})
                return
            if name == "watch":
                command["tell"] = lambda state: write({"number": number, "event": "state", "state": state})
            write({"number": number, "ok": await method(command)})
        except Exception as error:
            if not isinstance(error, MillraceError):
                logging.getLogger("agent").exception("command %s", name)
            write({"number": number, "error": from_fault(error)})

    async def do_open(self, fields: Fields) -> Fields:
        await self._client.close()
        self._codec = ReverseCodec() if fields.get("codec") == "reverse" else None
        self._client = Client(routes=fields.get("routes"), codec=self._codec)
        return {}

    def _job(self, job: Job) -> Fields:
        return from_job(job, self._codec, whole=True)

    async def do_create(self, fields: Fields) -> Fields:
        created = await self._client.create(to_spec(fields))
        return {"id": created.id, "existing": created.existing}

    async def do_create_many(self, fields: Fields) -> Fields:
        specs = to_specs(fields, "jobs")
        if fields["mode"] == "bulk":
            outcomes = await self._client.create_many(specs)
        elif fields["mode"] == "stream":
            outcomes = [outcome async for outcome in self._client.create_stream(specs)]
        else:
            outcomes = list(await asyncio.gather(*(self._one(spec) for spec in specs)))
        return {"outcomes": [from_outcome(outcome) for outcome in outcomes]}

    async def _one(self, spec: JobSpec) -> CreateOutcome:
        try:
            created = await self._client.create(spec)
        except MillraceError as error:
            return CreateOutcome("", error=error)
        return CreateOutcome(created.id, created.existing)

    async def do_get(self, fields: Fields) -> Fields:
        job = self._job(await self._client.get(fields["id"]))
        if fields.get("log"):
            job["log"] = [line.text for line in await self._client.log(fields["id"])]
        return job

    async def do_wait(self, fields: Fields) -> Fields:
        return self._job(await self._client.wait(fields["id"], timeout=fields.get("timeout")))

    async def do_watch(self, fields: Fields) -> Fields:
        states: list[str] = []
        try:
            async with asyncio.timeout(fields.get("timeout")):
                async for event in self._client.watch(JobFilter(ids=[fields["id"]])):
                    if event.job is not None and (not states or states[-1] != event.job.state):
                        states.append(event.job.state)
                        fields["tell"](event.job.state)
                        if event.job.state == fields["until"]:
                            break
        except TimeoutError:
            raise WaitTimeout(f"{fields['until']} was not seen within {fields.get('timeout')} s") from None
        return {"states": states}

    async def do_list(self, fields: Fields) -> Fields:
        return {"jobs": [from_job(job, self._codec) async for job in self._client.list(JobFilter(**fields))]}

    async def do_cancel(self, fields: Fields) -> Fields:
        terminate, reason = fields.get("terminate", False), fields.get("reason", "")
        return {"accepted": await self._client.cancel(fields["id"], terminate=terminate, reason=reason)}

    async def do_retry(self, fields: Fields) -> Fields:
        return self._job(await self._client.retry(fields["id"]))

    async def do_chain_create(self, fields: Fields) -> Fields:
        steps, on_failure = to_specs(fields, "steps"), to_maybe_spec(fields, "on_failure")
        return from_chain(await self._client.chains.create(steps, id=fields.get("id"), on_failure=on_failure))

    async def do_chain_get(self, fields: Fields) -> Fields:
        return from_chain(await self._client.chains.get(fields["id"]))

    async def do_chain_wait(self, fields: Fields) -> Fields:
        return from_chain(await self._client.chains.wait(fields["id"], timeout=fields.get("timeout")))

    async def do_chain_cancel(self, fields: Fields) -> Fields:
        return from_chain(await self._client.chains.cancel(fields.pop("id"), **fields))

    async def do_batch_create(self, fields: Fields) -> Fields:
        batch = await self._client.batches.create(
            to_specs(fields, "items"),
            id=fields.get("id"),
            description=fields.get("description", ""),
            defaults=to_maybe_spec(fields, "defaults"),
            on_success=to_maybe_spec(fields, "on_success"),
            on_complete=to_maybe_spec(fields, "on_complete"),
            seal=fields.get("seal", False),
        )
        return from_batch(batch)

    async def do_batch_add(self, fields: Fields) -> Fields:
        items = to_specs(fields, "items")
        outcomes = await self._client.batches.add(fields["id"], fields["chunk"], items, last=fields.get("last", False))
        return {"outcomes": [from_outcome(outcome) for outcome in outcomes]}

    async def do_batch_seal(self, fields: Fields) -> Fields:
        return from_batch(await self._client.batches.seal(fields["id"]))

    async def do_batch_get(self, fields: Fields) -> Fields:
        return from_batch(await self._client.batches.get(fields["id"]))

    async def do_batch_wait(self, fields: Fields) -> Fields:
        return from_batch(await self._client.batches.wait(fields["id"], timeout=fields.get("timeout")))

    async def do_batch_cancel(self, fields: Fields) -> Fields:
        return from_batch(await self._client.batches.cancel(fields.pop("id"), **fields))

    async def do_schedule_create(self, fields: Fields) -> Fields:
        return from_schedule(await self._client.schedules.create(to_schedule(fields)))

    async def do_schedules_declare(self, fields: Fields) -> Fields:
        specs = [to_schedule(spec) for spec in fields.get("schedules", ())]
        declared = await self._client.schedules.declare(fields["owner"], specs, prune=fields.get("prune", False))
        return {name: getattr(declared, name) for name in ("created", "updated", "unchanged", "deleted")}

    async def do_schedule_get(self, fields: Fields) -> Fields:
        return from_schedule(await self._client.schedules.get(fields["name"]))

    async def do_schedule_pause(self, fields: Fields) -> Fields:
        return from_schedule(await self._client.schedules.pause(fields["name"]))

    async def do_schedule_resume(self, fields: Fields) -> Fields:
        return from_schedule(await self._client.schedules.resume(fields["name"]))

    async def do_schedule_list(self, fields: Fields) -> Fields:
        return {"schedules": [from_schedule(s) async for s in self._client.schedules.list(owner=fields.get("owner", ""))]}

    async def do_schedule_delete(self, fields: Fields) -> Fields:
        await self._client.schedules.delete(fields["name"])
        return {}

    async def do_schedule_run(self, fields: Fields) -> Fields:
        return {"job_id": await self._client.schedules.run(fields["name"])}

    async def do_schedule_preview(self, fields: Fields) -> Fields:
        if "after" in fields:
            fields["after"] = to_time(fields["after"])
        return {"times": [from_time(time) for time in await self._client.schedules.preview(**fields)]}

    async def do_queue_get(self, fields: Fields) -> Fields:
        return from_queue(await self._client.queues.get(fields["name"]))

    async def do_queue_pause(self, fields: Fields) -> Fields:
        return from_queue(await self._client.queues.pause(fields["name"]))

    async def do_queue_resume(self, fields: Fields) -> Fields:
        return from_queue(await self._client.queues.resume(fields["name"]))

    async def do_queue_purge(self, fields: Fields) -> Fields:
        return {"purged": await self._client.queues.purge(fields["name"])}

    # ---- worker ----

    async def do_worker_start(self, fields: Fields) -> Fields:
        names = ("queues", "concurrency", "stop_grace", "terminate_grace")
        settings = {name: fields.pop(name) for name in names if name in fields}
        os.environ["MILLRACE_AGENT_WORKER"] = json.dumps(fields)  # for the module, here and in the processes of the pool
        self._worker = Worker("handlers", transport=self._transport, codec=self._codec, **settings)
        self._working = asyncio.create_task(self._worker.serve())
        self._working.add_done_callback(self._worker_ended)
        return {}

    @staticmethod
    def _worker_ended(working: asyncio.Task[Any]) -> None:
        if not working.cancelled() and working.exception() is not None:
            logging.getLogger("agent").error("the worker has ended: %s", working.exception())

    async def do_worker_stop(self, fields: Fields) -> Fields:
        if self._worker is not None and self._working is not None:
            self._worker.stop()
            await self._working
        return {}


def read_lines(loop: asyncio.AbstractEventLoop, lines: "asyncio.Queue[str]") -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(lines.put_nowait, line)
    os._exit(0)


async def main(transport: str) -> None:
    loop = asyncio.get_running_loop()
    agent = Agent(transport)
    tasks: set[asyncio.Task[None]] = set()

    def write(line: Fields) -> None:
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    async def leave() -> None:
        await agent.do_worker_stop({})
        logging.shutdown()
        os._exit(0)

    loop.add_signal_handler(signal.SIGTERM, lambda: tasks.add(asyncio.create_task(leave())))
    lines: asyncio.Queue[str] = asyncio.Queue()
    threading.Thread(target=read_lines, args=(loop, lines), daemon=True).start()
    write({"ready": True, "client": "python", "version": millrace.__version__})
    while True:
        task = asyncio.create_task(agent.answer(json.loads(await lines.get()), write))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The Python client's agent for the scenarios.")
    parser.add_argument("--transport", choices=("nng", "grpc"), default="nng")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(parser.parse_args().transport))
