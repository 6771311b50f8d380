# SPDX-License-Identifier: Apache-2.0
"""A worker without nng: two plain WebSockets. Used by test_hub.c.

plain_worker.py PORT SESSION TOKEN echo   sends each delivery back as a report, in parts of 64 KiB
plain_worker.py PORT SESSION TOKEN stuck  connects and reads nothing
"""
import asyncio
import sys

import websockets

PART_BYTES = 64 * 1024


async def main(port: str, session: str, token: str, mode: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    options = {"extra_headers": headers, "max_size": None, "ping_interval": None}
    if mode == "stuck":
        options["max_queue"] = 1
    base = f"ws://127.0.0.1:{port}"
    jobs = await websockets.connect(
        f"{base}/sessions/{session}/jobs", subprotocols=["push.sp.nanomsg.org"], **options)
    reports = await websockets.connect(
        f"{base}/reports", subprotocols=["pull.sp.nanomsg.org"], **options)
    if mode == "stuck":
        await asyncio.sleep(600)
    async for message in jobs:
        parts = [message[i:i + PART_BYTES] for i in range(0, len(message), PART_BYTES)]
        await reports.send(parts if len(parts) > 1 else message)


asyncio.run(main(*sys.argv[1:]))
