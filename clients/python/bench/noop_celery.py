# SPDX-License-Identifier: Apache-2.0
"""The same handler for Celery, with results kept as Millrace keeps them."""

import os

from celery import Celery

app = Celery("bench", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True, task_default_queue="default")


@app.task(name="noop")
def noop(data: str) -> None:
    """Does nothing."""
