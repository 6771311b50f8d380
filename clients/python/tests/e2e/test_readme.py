# SPDX-License-Identifier: Apache-2.0
"""The README's programs, and the worker of docs/api.md, as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from harness import CLIENT, WorkerProcess
from millrace import Client

README = (CLIENT / "README.md").read_text()
API = (CLIENT.parent.parent / "docs" / "api.md").read_text()


def program(marker: str, text: str = README) -> str:
    """The code block after a line that contains the marker."""
    block = re.search(rf"{re.escape(marker)}.*?```python\n(.*?)```", text, re.S)
    assert block is not None
    return block[1]


async def run(*command: str, folder: Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_tour(address: str, start_worker: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    (tmp_path / "readme_tasks.py").write_text(program("`tasks.py`"))
    (tmp_path / "tour.py").write_text(program("`tour.py`"))
    path = os.pathsep.join([str(CLIENT / "src"), str(tmp_path)])
    worker = start_worker("--concurrency", "2", app="readme_tasks", PYTHONPATH=path)
    output = await run(sys.executable, "tour.py", folder=tmp_path, PYTHONPATH=path)
    promised = re.search(r"It prints\n\n```text\n(.*?)```", README, re.S)
    assert promised is not None
    assert output == promised[1]
    assert await asyncio.to_thread(worker.terminate) == 0


async def test_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_readme_example.py").write_text(program("## Testing"))
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "test_readme_example.py")
    assert "1 passed" in await run(*command, folder=tmp_path, PYTHONPATH=str(CLIENT / "src"))


async def test_a_worker_from_the_page_about_the_protocol(address: str, tmp_path: Path) -> None:
    worker = program("### A worked example", API).replace("localhost:7070", address).replace("from millrace.v1", "from millrace.proto.v1")
    (tmp_path / "worker.py").write_text(worker)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "worker.py", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(CLIENT / "src")}
    )
    try:
        async with Client(address) as client:
            created = await client.create("send_email", kwargs={"to": "ada@example.org"})
            assert (await client.wait(created.id, timeout=60)).result == {"sent": True}
            # Not lost meanwhile: the worker's heartbeats are right, too.
            assert (await client.get(created.id)).attempts == 1
    finally:
        process.kill()
        await process.wait()
