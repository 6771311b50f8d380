# SPDX-License-Identifier: Apache-2.0
"""The handlers that the interface document speaks of. Each notes its calls, so that tests see them whatever process they run in."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

TASKS = (
    "request_review",
    "generate_daily_report",
    "cleanup_sessions",
    "health_check",
    "validate_order",
    "process_payment",
    "send_confirmation",
    "send_newsletter_email",
    "cleanup",
    "fraud_alert",
    "my_task",
    "send_reminder",
)


def note_call(task: str, arguments: dict[str, Any]) -> None:
    with open(pathlib.Path(os.environ["DOCUMENT_CALLS"]) / task, "a", encoding="utf-8") as file:
        file.write(json.dumps(arguments) + "\n")


def calls(task: str) -> list[dict[str, Any]]:
    """The arguments of each call of a handler so far."""
    path = pathlib.Path(os.environ["DOCUMENT_CALLS"]) / task
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


class Mailer:
    """Fails as often as the subject says."""

    def send(self, to: str, subject: str, body: str) -> None:
        note_call("mailer", {"to": to, "subject": subject, "body": body})
        failures = int(subject) if subject.isdigit() else 0
        if len([call for call in calls("mailer") if call["to"] == to]) <= failures:
            raise ConnectionError("the mail server is busy")


mailer = Mailer()


def define(shared_task: Callable[..., Any]) -> None:
    """Registers the handlers."""

    @shared_task(bind=True, max_retries=3, name="send_email")
    def send_email(self: Any, to: str, subject: str = "Hello", body: str = "") -> None:
        """Send an email."""
        try:
            mailer.send(to=to, subject=subject, body=body)
        except Exception as exc:
            raise self.retry(exc=exc, countdown=2**self.request.retries)  # noqa: B904  # as applications write it

    @shared_task(name="send_welcome_email")
    def send_welcome_email(user_id: str) -> None:
        """Send welcome email to new user."""
        send_email(to=f"{user_id}@example.com", subject="Welcome!", body=f"Hi {user_id}, welcome to our platform!")

    for name in TASKS:
        shared_task(name=name)(_noting(name))


def _noting(task: str) -> Callable[..., Any]:
    def handler(**arguments: Any) -> dict[str, Any]:
        note_call(task, arguments)
        return {"task": task, **arguments}

    handler.__qualname__ = task  # so that they are told apart
    return handler
