# SPDX-License-Identifier: Apache-2.0
"""A store with something of each kind in it."""
import json

from . import api
from .api import JobState
from .worker import HOLD, echo

PAYLOADS = ['{"a": 1,  "b":[1.50, 1e3, 18446744073709551615]}', '"\\u0000 and \\"quotes\\""', '[]', '{"kwargs":{"x":null}}', '"Grüße\\n"']


def fill(server, make_worker):
    """Something of each kind; answers the id of a job that runs."""
    client = server.client
    make_worker(server, ["done"], handler=echo)
    for payload in PAYLOADS:
        client.wait(client.create("work", queue="done", payload=api.json_payload(payload)).id)
    client.wait(client.create("big", queue="done", payload=api.json_payload(json.dumps("x" * 5000))).id)
    client.create("bytes", queue="waiting", payload=api.Payload(data=bytes(range(256)), content_type="application/x-mine"),
                  labels={"team": "mail", "key": "value"}, unique_key=api.UniqueKey(key="u"), traceparent="00-" + "a" * 32 + "-b" * 1)
    client.create("limited", queue="waiting", concurrency_key=api.ConcurrencyKey(key="c", limit=1),
                  retry_policy=api.RetryPolicy(kind=api.BackoffKind.LIST, delays=[api.seconds(1), api.seconds(5)]), retention=api.seconds(0))
    client.create("later", queue="waiting", delay=api.seconds(3600), expires_in=api.seconds(7200))
    client.UpdateQueue(name="waiting", settings=api.QueueSettings(max_length=api.UInt64Value(value=1000), mode=2))
    client.CreateSchedule(schedule=api.ScheduleSpec(name="nightly", timing=api.ScheduleTiming(cron="0 3 * * *", time_zone="Europe/Berlin"),
                                                    job=api.JobSpec(task="tidy", payload=api.json_payload('{"deep": true}'))))
    client.CreateChain(steps=[api.JobSpec(task="one", queue="waiting"), api.JobSpec(task="two", queue="waiting")],
                       on_failure=api.JobSpec(task="sorry", queue="waiting"))
    client.CreateBatch(items=[api.JobSpec(task="part", queue="waiting")] * 3, on_complete=api.JobSpec(task="all", queue="waiting"),
                       description="three", seal=True)
    cancelled = client.create("gone", queue="waiting")
    client.CancelJob(id=cancelled.id)
    client.DeleteJob(id=cancelled.id)  # leaves a tombstone
    holder = make_worker(server, ["held"], handler=lambda delivery: HOLD)
    running = client.create("long", queue="held")
    server.wait_for_state(running.id, JobState.RUNNING)
    assert holder
    return running.id
