# SPDX-License-Identifier: Apache-2.0
"""How the C client sends many jobs: in how many calls, by what the server counts, and how far ahead of the answers."""
import subprocess

from harness import monitor
from harness.server import BIN
from harness.tools import environment
from harness.wait import PATIENCE

JOBS = 6400


def requests_of_creates(server, *flags):
    """Has the benchmark create so many jobs, 64 at a time; answers how many requests the engine has taken for it."""
    before = monitor.metrics(server)
    done = subprocess.run([str(BIN / "millrace-bench"), "create", "-n", str(JOBS), "--outstanding", "64", *flags], check=False,
                          capture_output=True, text=True, timeout=120 * PATIENCE, env=environment(server))
    assert done.returncode == 0, done.stdout + done.stderr
    after = monitor.metrics(server)
    created = 'millrace_jobs_created_total{queue="bench",task="noop",priority="normal"}'
    assert after[created] - before.get(created, 0) == JOBS
    return after["millrace_requests_total"] - before["millrace_requests_total"]


def test_many_creates_at_a_time_share_calls_unless_told_otherwise(server):
    assert requests_of_creates(server) < JOBS / 10
    assert requests_of_creates(server, "--unary") >= JOBS


def test_a_stream_takes_all_jobs_before_an_answer_is_received(server):
    subprocess.run([str(BIN / "millrace-bench"), "stream", "-n", "400000", "--ahead", "400", "--payload", "10"], check=True,
                   timeout=120 * PATIENCE, env=environment(server))
    assert monitor.metrics(server)['millrace_jobs_created_total{queue="bench",task="noop",priority="normal"}'] == 400_000
