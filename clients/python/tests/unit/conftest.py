# SPDX-License-Identifier: Apache-2.0
"""What the tests of calls ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest

from fake_service import Service
from millrace.proto.v1.batch_service_pb2_grpc import add_BatchServiceServicer_to_server
from millrace.proto.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, str]]:
    server, service = grpc.aio.server(), Service()
    add_JobServiceServicer_to_server(service, server)
    add_BatchServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(None)
