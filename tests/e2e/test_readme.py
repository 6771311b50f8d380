# SPDX-License-Identifier: Apache-2.0
"""The commands of the top README and the process worker of docs/cli.md, as they stand there."""
import os
import re
import subprocess

from harness import api
from harness.server import BIN
from harness.tools import environment

README = (api.REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(heading):
    """The code blocks of a section that call the tool."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block for block in re.findall(r"```\n(.*?)```", section, re.S) if block.startswith("millrace ")]


def run(server, command, directory):
    """Runs it in a shell and answers what it printed."""
    done = subprocess.run(["bash", "-e", "-c", command], cwd=directory, capture_output=True, text=True, timeout=60, check=False,
                          env=environment(server, PATH=f"{BIN}:{os.environ['PATH']}"))
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_five_minutes(server, tmp_path):
    (block,) = blocks("Five minutes")
    create, work, wait = block.splitlines()
    job = run(server, create, tmp_path).strip()
    with subprocess.Popen(work.split(), env=environment(server, PATH=f"{BIN}:{os.environ['PATH']}"), stderr=subprocess.DEVNULL) as worker:
        ended = run(server, wait.replace("<the id that was printed>", job), tmp_path)
        worker.terminate()
    assert re.search(r'^state: +succeeded$', ended, re.M) and re.search(r'^result: +{"name":"world"}$', ended, re.M)


def test_five_levels(server, make_process_worker, tmp_path):
    commands = blocks("Five levels")
    assert len(commands) == 5
    item = re.search(r'`({"payload": .*?})`:', README)[1]
    (tmp_path / "recipients.ndjson").write_text(f"{item}\n" * 3, encoding="utf-8")
    make_process_worker(server, {"send_newsletter": "cat >/dev/null", "report": "exit 0"})
    for command in commands:
        run(server, command, tmp_path)
    assert [schedule.spec.name for schedule in server.client.ListSchedules().schedules] == ["health", "reports/daily"]
    (batch,) = server.client.ListBatches().batches
    assert batch.succeeded == 3


def test_the_process_worker_of_the_page_about_the_programs(server, tmp_path):
    page = (api.REPOSITORY / "docs/cli.md").read_text(encoding="utf-8")
    command, script = re.search(r"```\n(millrace worker run .*?)\n```.*?```sh\n(.*?)```", page, re.S).groups()
    handler = tmp_path / "send_email.sh"
    handler.write_text(script, encoding="utf-8")
    handler.chmod(0o755)
    with subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=tmp_path, stderr=subprocess.DEVNULL,
                          env=environment(server, PATH=f"{BIN}:{os.environ['PATH']}")) as worker:
        job = run(server, "millrace job create send_email to=a@example.org --queue emails", tmp_path).strip()
        ended = run(server, f"millrace job wait {job}", tmp_path)
        worker.terminate()
    assert re.search(r'^result: +{"sent": true}$', ended, re.M)
    assert server.client.log(job) == [f'attempt 1 of {job}: {{"to":"a@example.org"}}']
