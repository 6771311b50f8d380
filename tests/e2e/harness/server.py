# SPDX-License-Identifier: Apache-2.0
"""millraced as a process: start, stop, kill -9, SIGSTOP, restart on the same ports and data."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from . import api
from .wait import SOON_S, wait_until

BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", api.REPOSITORY / "build" / "bin"))
# Short, so that what takes the default server a quarter of a minute is seen sooner; long enough for a worker on a busy machine to be heard.
SESSION_TIMEOUT_S = 6.0
RECONNECT_GRACE_S = 1.0
HEARTBEAT_S = 1.5  # three pings without an answer end a connection: a busy machine must not
FAST = {"--session-timeout": "6s", "--reconnect-grace": "1s", "--heartbeat": "1500ms"}


class Server:
    """One millraced with a data directory of its own. Flags are given as {"--name": "value"}; None drops one of the fast ones."""

    def __init__(self, directory, flags=None, clock=None, environment=None):
        self.directory = pathlib.Path(directory)
        self.data = self.directory / "data"
        self.port_file = self.directory / "ports.json"
        self.log_path = self.directory / "server.log"
        self.clock = clock
        self.flags = {**FAST, **(flags or {})}
        self.environment = environment or {}
        self.descriptors_max = None  # hard limit, as an administrator may set it
        self.wrapper = []  # a program that runs it, such as valgrind
        self.patience_s = SOON_S
        self.ports = {}
        self.process = None
        self.client = None
        self.credentials = None      # of grpc, when it encrypts
        self.ssl_context = None      # for its WebSockets then
        self.check_on_exit = True
        self.ready_s = None

    # ---- life ----

    def command(self):
        """The command line."""
        ports = self.ports or {"grpc": 0, "worker": 0, "monitor": 0}
        command = [str(BIN / "millraced"), "--data-dir", str(self.data), "--listen", f"127.0.0.1:{ports['grpc']}",
                   "--worker-listen", f"127.0.0.1:{ports['worker']}", "--monitor-listen", f"127.0.0.1:{ports['monitor']}",
                   "--port-file", str(self.port_file)]
        for name, value in self.flags.items():
            if value is not None:
                command += [name, value] if value != "" else [name]
        return command

    def spawn(self):
        """Starts the process and does not wait for anything."""
        self.port_file.unlink(missing_ok=True)
        # Nothing outlives the test's own process, however that ends.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        if self.descriptors_max:
            guard += ["prlimit", f"--nofile={self.descriptors_max}:{self.descriptors_max}"]
        environment = {**os.environ, **(self.clock.environment() if self.clock else {}), **self.environment}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(guard + self.wrapper + self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        return self

    def start(self):
        """Starts it and waits until it serves."""
        for _ in range(5):
            begin = time.monotonic()
            self.spawn()
            if self._serves():
                self.ready_s = time.monotonic() - begin
                return self
            # The port may have been taken by somebody's outgoing connection while we were down.
            if not self.ports or "in use" not in self.log():
                break
        code = self.process.poll()
        if code is None:
            self.kill()
        raise AssertionError(f"millraced did not start (exit code {code})\n{self.log()}")

    def _serves(self):
        end = time.monotonic() + self.patience_s
        while not self._read_ports():
            if not self.is_alive() or time.monotonic() > end:
                return False
            time.sleep(0.005)
        if self.client is None:
            self.client = api.Client(self.target, credentials=self.credentials)
        else:
            self.client.reset()
        return api.eventually_serving(self.client, self.patience_s, self.is_alive)

    def _read_ports(self):
        try:
            seen = json.loads(self.port_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        self.ports = {name: seen[name] for name in ("grpc", "worker", "monitor")}
        return True

    @property
    def target(self):
        """Address for gRPC."""
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def pid(self):
        """Process id."""
        return self.process.pid

    def is_alive(self):
        """The process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; must end by itself with 0."""
        if self.is_alive():
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                code = self.process.wait(self.patience_s)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)
                self.process.wait()
                raise AssertionError(f"millraced did not stop on SIGTERM\n{self.log()}") from None
            assert code == 0, f"millraced ended with {code}\n{self.log()}"

    def restart(self, kill=True):
        """Down and up again, on the same ports and data."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def suspend(self):
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    # ---- looks ----

    def log(self):
        """The last of what it logged."""
        try:
            return self.log_path.read_bytes()[-20000:].decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def check(self):
        """Runs `millrace check` on the store of the stopped server."""
        return subprocess.run([str(BIN / "millrace"), "check", str(self.data)], capture_output=True, text=True, timeout=120, check=False)

    def repair(self, *arguments):
        """Runs `millrace repair`."""
        return subprocess.run([str(BIN / "millrace"), "repair", *arguments, str(self.data)], capture_output=True, text=True, timeout=120,
                              check=False)

    def memory_kib(self):
        """Resident memory."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def cpu_s(self):
        """CPU seconds that it has used: what others do on the machine hardly changes them."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def finish(self):
        """The end of every test: it lives, it stops cleanly, its store checks clean, its folder goes."""
        alive = self.is_alive()
        code = self.process.poll() if self.process else None
        try:
            if self.client:
                self.client.close()
            if alive:
                self.stop()
            elif code is not None:
                assert code in (0, -signal.SIGKILL), f"millraced ended by itself with {code}\n{self.log()}"
            if self.check_on_exit and self.data.exists():
                checked = self.check()
                assert checked.returncode == 0, f"the store is not clean:\n{checked.stdout}{checked.stderr}"
        finally:
            if self.is_alive():
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- shorthands ----

    def wait_for_state(self, job_id, *states, timeout_s=SOON_S, client=None):
        """Waits until the job is in one of these states and returns it."""
        names = [api.JobState(state).name for state in states]

        def look():
            job = (client or self.client).job(job_id)
            assert job.state in states, f"is {api.JobState(job.state).name}, should be {names}\n{job}"
            return job

        return wait_until(look, f"job {job_id} in {names}", timeout_s)
