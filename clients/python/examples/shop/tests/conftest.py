# SPDX-License-Identifier: Apache-2.0
"""The whole shop, as processes: a service, a worker, a web server."""

import os
import pathlib
import sys
from collections.abc import Iterator

import httpx
import pytest

SHOP = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SHOP), str(SHOP.parents[1] / "tests" / "app")]

from processes import Program, free_port, start_millraced, start_worker  # noqa: E402


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a shop that has just opened."""
    folder = tmp_path_factory.mktemp("shop")
    millraced, address = start_millraced(folder)
    environment = {"MILLRACE_ADDRESS": address, "SHOP_DATABASE": str(folder / "shop.sqlite"), "PYTHONPATH": python_path()}
    worker = start_worker(folder, address, "src.tasks", "default:5,bulk:1", 2, environment=environment)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "src.app:app", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    web = Program("web", folder, command, environment)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        web.wait_for(lambda: answers(client))
        yield client
    codes = [program.stop() for program in (web, worker, millraced)]
    assert codes == [0, 0, 0], web.log + worker.log + millraced.log


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/mails").is_success
    except httpx.TransportError:
        return False


def python_path() -> str:
    return os.pathsep.join([str(SHOP), str(SHOP.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
