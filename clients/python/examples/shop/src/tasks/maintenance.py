# SPDX-License-Identifier: Apache-2.0
"""What runs again and again. `@task` gives a handler Millrace's own policy, and takes async functions too."""

import time
from typing import Any

from millrace import RetryPolicy, task
from millrace.jobs import shared_task
from src import store
from src.tasks.email import send_email


@task(retry=RetryPolicy(max_attempts=5, initial=1))
async def generate_daily_report() -> dict[str, int]:
    """Counts orders and mails the result."""
    counts = store.count_orders()
    send_email(to="boss", subject="Daily report", body=str(counts), key=f"report {time.time_ns()}")
    return counts


@shared_task
def cleanup_sessions() -> None:
    """There are no sessions yet."""


@shared_task
def health_check() -> str:
    """The database answers."""
    store.count_orders()
    return "ok"


@shared_task(acks_late=True, soft_time_limit=60, time_limit=90)
def my_task(**arguments: Any) -> dict[str, Any]:
    """Does what it is told, for as long as it is told."""
    time.sleep(float(arguments.get("seconds", 0)))
    return {"echo": arguments}
