# SPDX-License-Identifier: Apache-2.0
"""How many calls the C client makes of many single creates, by what the server counts."""
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
