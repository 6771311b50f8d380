# SPDX-License-Identifier: Apache-2.0
"""Handlers that send mail."""

from typing import Any

from millrace.jobs import shared_task
from src import store


@shared_task(bind=True, max_retries=3)
def send_email(self: Any, to: str, subject: str, body: str, key: str | None = None) -> None:
    """Sends an email."""
    try:
        store.deliver_mail(key or self.request.id or f"{to} {subject}", to, subject, body)
    except Exception as exc:
        # Retry with exponential backoff
        raise self.retry(exc=exc, countdown=2**self.request.retries) from exc


@shared_task
def send_welcome_email(user_id: str) -> None:
    """Sends a welcome email to a new user."""
    user = store.get_user(user_id)
    send_email(
        to=user["email"],
        subject="Welcome!",
        body=f"Hi {user['name']}, welcome to our platform!",
        key=f"welcome {user_id}",
    )


@shared_task
def request_review(order_id: str) -> None:
    """Asks for a review, some days after an order."""
    send_email(to="buyer", subject="How was it?", body=f"Tell us about your order {order_id}.", key=f"review {order_id}")


@shared_task(queue="bulk")
def send_newsletter_email(user_id: str, content: str) -> None:
    """Sends one copy of a newsletter."""
    user = store.get_user(user_id)
    send_email(to=user["email"], subject="News", body=content, key=f"news {user_id} {content}")
