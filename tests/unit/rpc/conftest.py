# SPDX-License-Identifier: Apache-2.0
"""The gRPC front as a process, and messages made from the very descriptor set that is built into it."""
import os
import pathlib
import signal
import subprocess
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DEADLINE_S = 60

SET = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(os.environ["DESCRIPTOR_SET"]).read_bytes())
POOL = descriptor_pool.DescriptorPool()
FACTORY = message_factory.MessageFactory(POOL)
for _file in SET.file:
    POOL.Add(_file)


def message(name):
    """The class of a message, by its full name; millrace.v1 may be left out."""
    return FACTORY.GetPrototype(POOL.FindMessageTypeByName(name if "." in name else f"millrace.v1.{name}"))


def wait_until(fact, what):
    """Polls until it is true."""
    end = time.monotonic() + DEADLINE_S
    while not fact():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.01)


class Server:
    """A running rpc_test_server."""

    def __init__(self, grace_ms=5000, serving=True, answer_wait_ms=0):
        self.process = subprocess.Popen([os.environ["RPC_TEST_SERVER"], str(grace_ms), str(answer_wait_ms)], stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        self.target = f"127.0.0.1:{self.port}"
        self.channels = []
        self.channel = self.connect()
        if serving:
            self.set_serving(True)

    def connect(self, *options):
        """A connection of its own."""
        channel = grpc.insecure_channel(self.target, options=[("grpc.use_local_subchannel_pool", 1), *options])
        self.channels.append(channel)
        return channel

    def set_serving(self, serving):
        """Tells it and waits until it says so."""
        self.process.send_signal(signal.SIGUSR1 if serving else signal.SIGUSR2)
        wanted = 1 if serving else 2
        check = self.unary("grpc.health.v1.Health", "Check", "grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse")
        wait_until(lambda: check(message("grpc.health.v1.HealthCheckRequest")(), timeout=DEADLINE_S).status == wanted, "its new health")

    def unary(self, service, method, request, response, channel=None):
        """A unary method."""
        return (channel or self.channel).unary_unary(f"/{service}/{method}", request_serializer=message(request).SerializeToString,
                                                     response_deserializer=message(response).FromString)

    def call(self, method, request=None, channel=None, service="JobService", **options):
        """Calls a method of millrace.v1."""
        options.setdefault("timeout", DEADLINE_S)
        stub = self.unary(f"millrace.v1.{service}", method, f"{method}Request", f"{method}Response", channel)
        return stub(request if request is not None else message(f"{method}Request")(), **options)

    def raw(self, path, channel=None):
        """A unary method with bytes for messages."""
        return (channel or self.channel).unary_unary(path)

    def stream(self, path, request, response, channel=None):
        """A bidirectional method."""
        return (channel or self.channel).stream_stream(path, request_serializer=message(request).SerializeToString,
                                                       response_deserializer=message(response).FromString)

    def info(self):
        """What the fake engine counts."""
        return self.call("GetServerInfo", service="AdminService")

    def create(self, **fields):
        """CreateJob."""
        return self.call("CreateJob", message("CreateJobRequest")(job=fields))

    def terminate(self):
        """SIGTERM."""
        self.process.terminate()

    def wait(self):
        """Its exit code."""
        return self.process.wait(DEADLINE_S)

    def close(self):
        """The end of every test: it lives, and stops in order."""
        for channel in self.channels:
            channel.close()
        try:
            if self.process.poll() is None:
                self.terminate()
            assert self.wait() == 0
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


@pytest.fixture
def server():
    """A serving one."""
    running = Server()
    yield running
    running.close()
