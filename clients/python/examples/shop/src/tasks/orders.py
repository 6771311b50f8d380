# SPDX-License-Identifier: Apache-2.0
"""The steps of an order. Each may run again after a crash, and does nothing then."""

from millrace.jobs import shared_task
from src import store
from src.tasks.email import send_email


@shared_task
def validate_order(order_id: str) -> None:
    """First step."""
    if store.get_order(order_id)["item"] == "nothing":
        raise ValueError("the order is empty")
    store.move_order(order_id, "new", "valid")


@shared_task
def process_payment(order_id: str) -> None:
    """Second step."""
    store.move_order(order_id, "valid", "paid")


@shared_task
def send_confirmation(order_id: str) -> str:
    """Last step."""
    store.move_order(order_id, "paid", "confirmed")
    send_email(to="buyer", subject="Your order", body=f"We have your order {order_id}.", key=f"confirmation {order_id}")
    return f"confirmed {order_id}"
