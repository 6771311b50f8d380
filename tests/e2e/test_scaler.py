# SPDX-License-Identifier: Apache-2.0
"""KEDA's calls, as its operator makes them: the metric's target once, its value and the activity at every poll, and the stream of a
trigger of type external-push."""
import math

import pytest

from harness import api
from harness.api import fails
from harness.wait import wait_until


def trigger(*queues, **metadata):
    """What KEDA sends along: all of the trigger's metadata, its own part too."""
    return api.ScaledObjectRef(name="emails", namespace="shop", scalerMetadata={
        "scalerAddress": "millrace:7070", "queues": ",".join(queues), **metadata})


def poll(client, ref):
    """(value, active), as KEDA asks at every interval."""
    spec = client.GetMetricSpec(ref).metricSpecs[0]
    values = client.GetMetrics(scaledObjectRef=ref, metricName=spec.metricName).metricValues
    assert [v.metricName for v in values] == [spec.metricName]
    assert values[0].metricValue == values[0].metricValueFloat
    return values[0].metricValue, client.IsActive(ref).result


def replicas(client, ref, now, most=100):
    """How many workers the cluster's autoscaler would want: value / target, rounded up; KEDA alone decides about 0 and 1."""
    spec = client.GetMetricSpec(ref).metricSpecs[0]
    value, active = poll(client, ref)
    return min(most, max(1 if active else 0, math.ceil(value / spec.targetSizeFloat))) if active or now else 0


def test_a_backlog_calls_workers_and_running_jobs_keep_them(shared, queue, make_worker):
    client, ref = shared.client, trigger(queue, targetBacklogPerWorker="20")
    assert poll(client, ref) == (0, False) and replicas(client, ref, 0) == 0
    ids = client.create_many([api.JobSpec(task="work", queue=queue)] * 90)
    assert poll(client, ref) == (90, True) and replicas(client, ref, 0) == 5
    worker = make_worker(shared, [queue], concurrency=90)
    deliveries = [worker.take() for _ in ids]
    # Nothing waits any more, and still nobody may be stopped.
    assert client.counts(queue) == {"running": 90}
    assert poll(client, ref) == (90, True)
    for delivery in deliveries[:-1]:
        worker.succeed(delivery)
    wait_until(lambda: poll(client, ref) == (1, True), "one runs")
    assert replicas(client, ref, 5) == 1
    worker.succeed(deliveries[-1])
    wait_until(lambda: poll(client, ref) == (0, False), "none runs")


def test_jobs_that_need_no_worker_now_call_none(shared, queue):
    client, ref = shared.client, trigger(queue)
    client.create(queue=queue, delay=api.seconds(600))
    client.CreateChain(steps=[api.JobSpec(task="work", queue=queue, delay=api.seconds(600)), api.JobSpec(task="work", queue=queue)])
    assert poll(client, ref) == (0, False)
    client.create(queue=queue)
    assert poll(client, ref) == (1, True)
    client.PauseQueue(name=queue)
    assert poll(client, ref) == (0, False)
    client.ResumeQueue(name=queue)
    assert poll(client, ref) == (1, True)


def test_a_limit_of_the_queue_is_a_limit_of_its_workers(shared, queue):
    client, ref = shared.client, trigger(queue, targetBacklogPerWorker="1")
    client.create_many([api.JobSpec(task="work", queue=queue)] * 50)
    client.UpdateQueue(name=queue, settings=api.QueueSettings(max_running=api.UInt32Value(value=3)))
    assert poll(client, ref) == (3, True) and replicas(client, ref, 0) == 3


def test_several_queues_of_one_trigger_count_together(shared, queue):
    client = shared.client
    names = [f"{queue}-{n}" for n in range(3)]
    for number, name in enumerate(names):
        client.create_many([api.JobSpec(task="work", queue=name)] * (number + 1))
    assert poll(client, trigger(names[0], f" {names[1]} ", names[2])) == (6, True)
    assert poll(client, trigger(names[0], f"{queue}-nobody-uses")) == (1, True)


def test_the_target_is_what_the_trigger_says(shared, queue):
    spec = shared.client.GetMetricSpec(trigger(queue, targetBacklogPerWorker="25")).metricSpecs
    assert [(s.metricName, s.targetSize, s.targetSizeFloat) for s in spec] == [("backlog", 25, 25.0)]
    spec = shared.client.GetMetricSpec(trigger(queue)).metricSpecs
    assert [(s.targetSize, s.targetSizeFloat) for s in spec] == [(10, 10.0)]


def test_a_push_trigger_hears_of_every_change(shared, queue, make_worker):
    client = shared.client
    stream = client.StreamIsActive(trigger(queue))
    assert stream.next().result is False
    client.create(queue=queue)
    assert stream.next().result is True
    worker = make_worker(shared, [queue])
    worker.succeed(worker.take())
    assert stream.next().result is False
    stream.cancel()


def test_a_push_trigger_is_told_when_the_server_stops(make_server):
    server = make_server()
    stream = server.client.StreamIsActive(trigger("default"))
    assert stream.next().result is False
    server.stop()
    with fails("UNAVAILABLE"):
        stream.next()


@pytest.mark.parametrize("metadata, field", [
    ({}, "scalerMetadata.queues"), ({"queues": ""}, "scalerMetadata.queues"), ({"queues": "a,,b"}, "scalerMetadata.queues"),
    ({"queues": "a,b, a"}, "scalerMetadata.queues"), ({"queues": "a" * 60000}, "name"), ({"queues": "," * 60000}, "scalerMetadata.queues"),
    ({"queues": "not a name"}, "name"), ({"queues": ",".join(f"q{n}" for n in range(101))}, "scalerMetadata.queues"),
    *(({"queues": "a", "targetBacklogPerWorker": bad}, "scalerMetadata.targetBacklogPerWorker") for bad in ("0", "-1", "many", "1000001", "")),
])
def test_mistakes_in_a_trigger_are_named(shared, metadata, field):
    ref = api.ScaledObjectRef(name="emails", namespace="shop", scalerMetadata=metadata)
    with fails("INVALID_ARGUMENT", field=field):
        shared.client.IsActive(ref)
    with fails("INVALID_ARGUMENT", field=field):
        shared.client.StreamIsActive(ref).next()


def test_another_metric_is_refused(shared, queue):
    with fails("INVALID_ARGUMENT", field="metricName"):
        shared.client.GetMetrics(scaledObjectRef=trigger(queue), metricName="temperature")
    with fails("INVALID_ARGUMENT", field="scalerMetadata.queues"):
        shared.client.GetMetrics(metricName="backlog")


def test_what_later_versions_of_keda_ask_for_is_unimplemented(shared, queue):
    with fails("UNIMPLEMENTED"):
        shared.client.raw("/externalscaler.ExternalScaler/StreamMetricSpec", trigger(queue).SerializeToString())
