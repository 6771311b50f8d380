# SPDX-License-Identifier: Apache-2.0
"""A client's agent as a process: commands in, answers out. The protocol is told in tests/e2e/scenarios/README.md."""
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading

from harness import api
from harness.server import BIN
from harness.wait import PATIENCE, SOON_S

# All of them; while working on one: MILLRACE_CLIENTS=c,go.
CLIENTS = os.environ.get("MILLRACE_CLIENTS", "c,go,python,java").split(",")
MISSING_TOOLCHAIN = 77
# A first start may have to build the agent.
READY_S = 300.0 * PATIENCE
# Of a test, which may be the first to start a client's agent, and so the one that has it built.
TEST_S = 600
LOG_BYTES = 8000
# What tells a client where its server is and how to speak to it.
OF_A_CLIENT = {"MILLRACE_ADDRESS", "MILLRACE_TOKEN", "MILLRACE_TOKEN_FILE", "MILLRACE_CA", "MILLRACE_CERTIFICATE", "MILLRACE_KEY",
               "MILLRACE_WORKER_URL"}


def program(client):
    """The path of a client's agent; it need not exist."""
    if client == "c":
        return BIN / "millrace-agent"
    return api.REPOSITORY / "clients" / client / "agent.sh"


class MissingToolchain(Exception):
    """The agent can't run here, and says why."""


class AgentError(Exception):
    """What the client answered instead of a value."""

    def __init__(self, error):
        super().__init__(f"{error.get('kind')}: {error.get('message')}")
        self.error = error


class Call:
    """A command on its way."""

    def __init__(self, agent, fields):
        self.agent = agent
        self.fields = fields
        self.events = queue.Queue()
        self._answer = queue.Queue()

    def finish(self, line):
        """The agent's last word on it."""
        self._answer.put(line)

    def result(self, timeout_s=2 * SOON_S):
        """The value answered; AgentError if the client said no."""
        try:
            line = self._answer.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no answer within {timeout_s:.0f} s to {self.fields}\n{self.agent.log()}") from None
        self._answer.put(line)
        if "error" in line:
            assert line["error"].get("message"), f"an error must say something: {line}"
            raise AgentError(line["error"])
        assert "ok" in line, f"the agent answered {line} to {self.fields}\n{self.agent.log()}"
        return line["ok"]

    def event(self, timeout_s=SOON_S):
        """The next event that came before the answer."""
        try:
            return self.events.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no event within {timeout_s:.0f} s from {self.fields}\n{self.agent.log()}") from None


class Agent:
    """One agent process, in a process group of its own."""

    def __init__(self, client, transport, address, log_path, options=None, environment=None):
        self.client = client
        self.transport = transport
        self.log_path = log_path
        self.is_ready = False
        self._numbers = itertools.count(1)
        self._calls = {}
        self._lock = threading.Lock()
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        outer = {name: value for name, value in os.environ.items() if name not in OF_A_CLIENT}
        environment = {**outer, "MILLRACE_ADDRESS": address, **(environment or {})}
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen([*guard, str(program(client)), "--transport", transport], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait_until_ready()
        if options:
            self.call("open", **options)

    def _wait_until_ready(self):
        if not self._ready.wait(READY_S):
            self.kill()
            raise AssertionError(f"the agent of {self.client} was not ready within {READY_S:.0f} s\n{self.log()}")
        if self.is_ready:
            return
        code = self.process.wait(SOON_S)
        if code == MISSING_TOOLCHAIN:
            raise MissingToolchain(self.log().strip() or "its agent says 77")
        raise AssertionError(f"the agent of {self.client} ended with {code}\n{self.log()}")

    def _read(self):
        for raw in self.process.stdout:
            try:
                line = json.loads(raw)
            except json.JSONDecodeError:
                line = {"error": {"kind": "internal", "message": f"not JSON: {raw[:500]!r}"}}
            if line.get("ready"):
                self.is_ready = True
                self._ready.set()
                continue
            with self._lock:
                call = self._calls.get(line.get("number"))
                if call and "event" not in line:
                    del self._calls[line["number"]]
            if call:
                (call.events.put if "event" in line else call.finish)(line)
        with self._lock:
            calls, self._calls = self._calls, {}
        for call in calls.values():
            call.finish({"error": {"kind": "agent_gone", "message": "the agent has ended"}})
        self._ready.set()

    # ---- commands ----

    def send(self, command, **fields):
        """Sends a command and does not wait."""
        number = next(self._numbers)
        fields = {"number": number, "command": command, **fields}
        call = Call(self, fields)
        with self._lock:
            self._calls[number] = call
        try:
            self.process.stdin.write(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            call.finish({"error": {"kind": "agent_gone", "message": "the agent has ended"}})
        return call

    def call(self, command, timeout_s=2 * SOON_S, **fields):
        """Sends a command and returns what it answers."""
        return self.send(command, **fields).result(timeout_s)

    # ---- life ----

    def is_alive(self):
        """The process runs."""
        return self.process.poll() is None

    def terminate(self):
        """SIGTERM to the process, as a supervisor does it."""
        self.process.terminate()

    def exit_code(self, timeout_s=2 * SOON_S):
        """Waits until it has ended by itself."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent has not ended within {timeout_s:.0f} s\n{self.log()}") from None

    def kill(self):
        """kill -9 of the whole group. Harmless again."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self._reader.join(SOON_S)
        self.process.stdin.close()
        self.process.stdout.close()

    def log(self):
        """The last of what it wrote to stderr."""
        try:
            return self.log_path.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
