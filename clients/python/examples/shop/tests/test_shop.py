# SPDX-License-Identifier: Apache-2.0
"""The shop over HTTP: each test does what a browser would, and sees what a person would."""

import uuid
from typing import Any

import httpx
from processes import wait_until


def mails(shop: httpx.Client, subject: str) -> list[dict[str, str]]:
    return [mail for mail in shop.get("/mails").json() if mail["subject"] == subject]


def ended(shop: httpx.Client, task_id: str) -> Any:
    """What the task returned, once it has."""
    response = shop.get(f"/tasks/{task_id}", params={"wait": 50})
    assert response.json()["status"] == "success", response.text
    return response.json()["result"]


def test_signing_up_brings_a_mail(shop: httpx.Client) -> None:
    response = shop.post("/signup", json={"email": "zoe@example.com", "name": "Zoë"})
    assert response.json()["user_id"]
    wait_until(lambda: mails(shop, "Welcome!"), "the mail arrives")
    assert mails(shop, "Welcome!") == [
        {"to": "zoe@example.com", "subject": "Welcome!", "body": "Hi Zoë, welcome to our platform!"},
    ]


def test_an_order_goes_through_its_steps(shop: httpx.Client) -> None:
    order = shop.post("/orders", json={"item": "tea"}).json()
    assert ended(shop, order["task_id"]) == f"confirmed {order['order_id']}"
    assert shop.get(f"/orders/{order['order_id']}").json()["state"] == "confirmed"
    assert [order["order_id"] in mail["body"] for mail in mails(shop, "Your order")] == [True]


def test_an_empty_order_stops_at_its_first_step(shop: httpx.Client) -> None:
    order = shop.post("/orders", json={"item": "nothing"}).json()
    response = shop.get(f"/tasks/{order['task_id']}", params={"wait": 50})
    assert response.json()["status"] == "cancelled"
    assert "the order is empty" in response.json()["error"]
    assert shop.get(f"/orders/{order['order_id']}").json()["state"] == "new"


def test_a_review_is_asked_for_later(shop: httpx.Client) -> None:
    late = shop.post("/orders/17/confirm").json()
    assert shop.get(f"/tasks/{late['task_id']}").json()["status"] == "scheduled"
    soon = shop.post("/orders/18/confirm", params={"days": 1 / 86400}).json()
    ended(shop, soon["task_id"])
    assert ["18" in mail["body"] for mail in mails(shop, "How was it?")] == [True]
    assert shop.delete(f"/tasks/{late['task_id']}").json() == {"cancelled": True}
    assert shop.delete(f"/tasks/{late['task_id']}").json() == {"cancelled": False}


def test_a_newsletter_reaches_everybody_once(shop: httpx.Client) -> None:
    for number in range(30):
        shop.post("/signup", json={"email": f"reader{number}@example.com", "name": f"Reader {number}"})
    result = shop.post("/admin/send-newsletter", json={"content": "Tea is here"}).json()
    assert result["total"] == result["enqueued"] >= 30
    wait_until(lambda: len(mails(shop, "News")) >= result["total"], "every reader has the letter")
    recipients = [mail["to"] for mail in mails(shop, "News")]
    assert len(recipients) == len(set(recipients)) == result["total"]


def test_the_daily_report_is_scheduled_and_can_be_had_now(shop: httpx.Client) -> None:
    listed = {job["name"]: job for job in shop.get("/schedules").json()}
    assert {name: job["schedule"] for name, job in listed.items()} == {
        "daily-report": "0 9 * * *",
        "session-cleanup": "0 * * * *",
        "health-ping": "every 5m",
    }
    assert "T09:00:00" in listed["daily-report"]["next"]
    task_id = shop.post("/admin/report").json()["task_id"]
    assert ended(shop, task_id).get("confirmed", 0) >= 1
    assert len(mails(shop, "Daily report")) == 1
    assert shop.delete("/schedules/health-ping").json() == {"removed": True}
    assert shop.delete("/schedules/health-ping").json() == {"removed": False}


def test_a_task_that_runs_can_be_killed(shop: httpx.Client) -> None:
    task_id = shop.post("/tasks", json={"seconds": 50}).json()["task_id"]
    wait_until(lambda: shop.get(f"/tasks/{task_id}").json()["status"] == "running", "it runs")
    assert shop.delete(f"/tasks/{task_id}", params={"terminate": True}).json() == {"cancelled": True}
    assert shop.get(f"/tasks/{task_id}", params={"wait": 50}).json()["status"] == "cancelled"


def test_a_failure_is_told(shop: httpx.Client) -> None:
    task_id = shop.post("/tasks", json={"seconds": "soon"}).json()["task_id"]
    response = shop.get(f"/tasks/{task_id}", params={"wait": 50})
    assert (response.status_code, response.json()["detail"]) == (502, "ValueError: could not convert string to float: 'soon'")


def test_queues_can_be_looked_at_and_purged(shop: httpx.Client) -> None:
    assert shop.get("/queue-stats", params={"name": "nobody-serves-this"}).json() == {"pending": 0}
    assert shop.delete("/queues/nobody-serves-this").json() == {"purged": 0}


def test_what_is_not_there_is_not_found(shop: httpx.Client) -> None:
    for path in ("/orders/17", f"/tasks/{uuid.uuid4()}"):
        response = shop.get(path)
        assert (response.status_code, "there is no" in response.json()["detail"]) == (404, True), response.text
    assert shop.get("/tasks/17").status_code == 422
