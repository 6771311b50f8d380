# SPDX-License-Identifier: Apache-2.0
"""The web side: `uvicorn src.app:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from millrace import InvalidArgument, JobNotFound
from src import store
from src.core.interfaces.queue import QueueBackend
from src.utils.jobs import JobManager, JobPriority, TaskStatus, close_job_manager, enqueue, get_job_manager, get_queue

router = APIRouter()
Jobs = Annotated[JobManager, Depends(get_job_manager)]
Queue = Annotated[QueueBackend, Depends(get_queue)]


class SignupRequest(BaseModel):
    email: str
    name: str


class OrderRequest(BaseModel):
    item: str


class NewsletterRequest(BaseModel):
    content: str


async def setup_scheduled_jobs() -> None:
    """Declares what runs again and again; saying it at every start changes nothing."""
    jobs = await get_job_manager()
    await jobs.schedule("generate_daily_report", cron="0 9 * * *", name="daily-report")
    await jobs.schedule("cleanup_sessions", cron="0 * * * *", name="session-cleanup")
    await jobs.schedule_interval("health_check", interval=timedelta(minutes=5), name="health-ping")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await setup_scheduled_jobs()
    yield
    await close_job_manager()


@router.post("/signup")
async def signup(data: SignupRequest, jobs: Jobs) -> dict[str, str]:
    user_id = store.add_user(data.email, data.name)
    await jobs.enqueue("send_welcome_email", user_id=user_id)
    return {"user_id": user_id}


@router.post("/orders")
async def create_order(data: OrderRequest, jobs: Jobs) -> dict[str, str]:
    """Validates, takes the money and confirms, one after the other."""
    order_id = store.add_order(data.item)
    task_id = await jobs.chain(
        [
            ("validate_order", (), {"order_id": order_id}),
            ("process_payment", (), {"order_id": order_id}),
            ("send_confirmation", (), {"order_id": order_id}),
        ]
    )
    return {"order_id": order_id, "task_id": task_id}


@router.get("/orders/{order_id}")
async def get_order(order_id: str) -> dict[str, str]:
    order = store.get_order(order_id)
    return {"order_id": order["id"], "state": order["state"]}


@router.post("/orders/{order_id}/confirm")
async def confirm_order(order_id: str, jobs: Jobs, days: float = 7) -> dict[str, str]:
    """Asks for a review in some days."""
    task_id = await jobs.enqueue_delayed("request_review", delay=timedelta(days=days), order_id=order_id)
    return {"order_id": order_id, "task_id": task_id}


@router.post("/admin/send-newsletter")
async def send_newsletter(data: NewsletterRequest, jobs: Jobs) -> dict[str, Any]:
    subscribers = store.all_users()
    result = await jobs.enqueue_batch(
        "send_newsletter_email",
        items=[{"user_id": subscriber["id"], "content": data.content} for subscriber in subscribers],
        batch_size=100,
    )
    return {"total": result.total, "enqueued": result.enqueued, "batch_id": result.batch_id}


@router.post("/admin/report")
async def report() -> dict[str, str]:
    """The daily report, now."""
    return {"task_id": await enqueue("generate_daily_report", priority=JobPriority.HIGH)}


@router.post("/tasks")
async def create_task(arguments: dict[str, Any], jobs: Jobs) -> dict[str, str]:
    return {"task_id": await jobs.enqueue("my_task", **arguments)}


@router.get("/tasks/{task_id}")
async def get_task(task_id: str, jobs: Jobs, wait: float = 0) -> dict[str, Any]:
    """What became of a job; with `wait`, once it has ended or so many seconds have passed."""
    if wait:
        try:
            status = await jobs.wait_for(task_id, timeout=wait)
        except TimeoutError:
            status = await jobs.get_status(task_id)
    else:
        status = await jobs.get_status(task_id)
    if status.status == TaskStatus.FAILED:
        raise HTTPException(502, detail=status.error)
    return {"status": status.status, "result": status.result, "error": status.error}


@router.delete("/tasks/{task_id}")
async def cancel_task(task_id: str, jobs: Jobs, terminate: bool = False) -> dict[str, bool]:
    return {"cancelled": await jobs.cancel(task_id, terminate=terminate)}


@router.get("/queue-stats")
async def queue_stats(queue: Queue, name: str = "default") -> dict[str, int]:
    return {"pending": await queue.queue_length(name)}


@router.delete("/queues/{name}")
async def purge(name: str, jobs: Jobs) -> dict[str, int]:
    return {"purged": await jobs.purge_queue(name)}


@router.get("/schedules")
async def schedules(jobs: Jobs) -> list[dict[str, Any]]:
    return [{"name": job.name, "schedule": job.schedule, "next": job.next_run} for job in await jobs.list_scheduled()]


@router.delete("/schedules/{name}")
async def unschedule(name: str, jobs: Jobs) -> dict[str, bool]:
    return {"removed": await jobs.unschedule(name)}


@router.get("/mails")
async def mails() -> list[dict[str, str]]:
    """What the mail provider was given."""
    return [{"to": mail["recipient"], "subject": mail["subject"], "body": mail["body"]} for mail in store.all_mails()]


app = FastAPI(title="Shop", lifespan=lifespan)
app.include_router(router)


@app.exception_handler(store.NotFound)
@app.exception_handler(JobNotFound)
async def not_found(request: Request, error: Exception) -> JSONResponse:
    """There is no such order, or no such job (any more)."""
    return JSONResponse({"detail": str(error)}, status_code=404)


@app.exception_handler(InvalidArgument)
async def invalid(request: Request, error: Exception) -> JSONResponse:
    """Millrace says which field is wrong, such as an id that is none."""
    return JSONResponse({"detail": str(error)}, status_code=422)
