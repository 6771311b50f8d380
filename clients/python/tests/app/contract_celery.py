# SPDX-License-Identifier: Apache-2.0
"""The Celery app whose worker the contract suite starts: `celery -A contract_celery worker`."""

import os

import document_handlers
from celery import Celery, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from contract_handlers import define

app = Celery("contract", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.update(
    task_default_queue="default",
    redbeat_redis_url=os.environ["CELERY_BROKER_URL"],
    beat_max_loop_interval=1,
    broker_connection_retry_on_startup=True,
    task_track_started=True,
)
define(shared_task, SoftTimeLimitExceeded)
document_handlers.define(shared_task)
