# SPDX-License-Identifier: Apache-2.0
"""The code of docs/from-celery.md, as it stands there."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[2]
GUIDE = (CLIENT.parent.parent / "docs" / "from-celery.md").read_text()

# What the guide takes for granted.
MAILER = """
sent = []

def send(**mail):
    sent.append(mail)
"""
BEFORE_ROUTES = """
import types
import pydantic

class SignupRequest(pydantic.BaseModel):
    email: str

async def create_user(data):
    return types.SimpleNamespace(id=17)

"""
PROGRAM = """
import asyncio

import fastapi
import handlers
import httpx
import mailer
import routes

from millrace.jobs import get_job_manager

async def main():
    app = fastapi.FastAPI()
    app.include_router(routes.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        print((await client.post("/signup", json={"email": "ada@example.org"})).json())
    jobs = await get_job_manager()
    print(await jobs.queue_length("default"))  # nobody here handles send_welcome_email
    task_id = await jobs.enqueue("send_email", "ada@example.org", "Hello", body="How are you?")
    print((await jobs.get_status(task_id)).status, mailer.sent)

asyncio.run(main())
"""


def test_the_code_of_the_guide(tmp_path: Path) -> None:
    handlers, routes, *outbox = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    files = {
        "mailer.py": MAILER,
        "handlers.py": f"import mailer\n{handlers}",
        "routes.py": BEFORE_ROUTES + routes,
        "program.py": PROGRAM,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "QUEUE_BACKEND": "memory", "PYTHONPATH": str(CLIENT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "{'user_id': 17}",
        "1",
        "success [{'to': 'ada@example.org', 'subject': 'Hello', 'body': 'How are you?'}]",
    ], done.stderr
    assert len(outbox) == 2
    for block in outbox:
        compile(block, "from-celery.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
