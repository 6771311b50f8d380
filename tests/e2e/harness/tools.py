# SPDX-License-Identifier: Apache-2.0
"""The command-line tool, process workers and a TCP relay that can cut, stall or slow the wire."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading

from .server import BIN
from .wait import SOON_S, wait_until


class Outcome:
    """What a command did."""

    def __init__(self, completed):
        self.code = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr

    def __repr__(self):
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"

    @property
    def json(self):
        """Standard output as JSON: one value, or one a line."""
        try:
            return json.loads(self.out)
        except json.JSONDecodeError:
            return [json.loads(line) for line in self.out.splitlines() if line.strip()]


def environment(server, **more):
    """As a user's shell would have it."""
    address = {"MILLRACE_ADDRESS": server.target} if server is not None else {}
    return {**{k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}, "NO_COLOR": "1", **address, **more}


def millrace(server, *arguments, input=None, code=0, timeout_s=60, **env):
    """Runs `millrace …` and checks its exit code (None: any)."""
    completed = subprocess.run([str(BIN / "millrace"), *map(str, arguments)], input=input, capture_output=True, text=True, check=False,
                               env=environment(server, **env), timeout=timeout_s)
    outcome = Outcome(completed)
    assert code is None or outcome.code == code, f"millrace {' '.join(map(str, arguments))}: {outcome}"
    return outcome


class ProcessWorker:
    """`millrace worker run` as a process of its own, with shell scripts as handlers: {"task": "script text"}."""

    def __init__(self, server, directory, handlers, *flags, queues=("default",), environment_more=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._server = server
        self._environment = environment_more or {}
        self.command = [str(BIN / "millrace"), "worker", "run", *flags]
        for name in queues:
            self.command += ["--queue", name]
        for task, text in handlers.items():
            path = self.directory / (re.sub(r"[^A-Za-z0-9]", "_", task) + ".sh")
            path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            self.command += ["--handler", f"{task}={path}"]
        self.log_path = self.directory / "worker.log"
        self.process = None

    def start(self):
        """Starts it; does not wait for its session."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                            env=environment(self._server, **self._environment))
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(SOON_S)
            except subprocess.TimeoutExpired:
                self.kill()
        # Handlers have process groups of their own; those of a killed worker end by themselves, scripts in tests never run for long.

    @property
    def pid(self):
        """Process id."""
        return self.process.pid

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        """Any signal."""
        self.process.send_signal(number)

    def log(self):
        """What it printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_attached(self, client, sessions=1):
        """Waits until the server counts so many connected sessions."""
        wait_until(lambda: sum(1 for w in client.ListWorkers().workers if w.state == 1) >= sessions,
                   f"worker attached\n{self.log() if self.log_path.exists() else ''}")
        return self


class Relay:
    """A TCP relay on a port of its own, between a worker and the server."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs = []
        self._flows = threading.Event()
        self._flows.set()
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open = False
        self._flows.set()
        self._listener.close()
        self.cut()

    def _accept(self):
        while self._open:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                continue
            self._pairs.append((near, far))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target, self._flows), daemon=True).start()

    def _pump(self, source, target, flows):
        try:
            while True:
                data = source.recv(65536)
                flows.wait()
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stall(self):
        """Nothing passes any more, and nobody is told: a half-open connection."""
        self._flows.clear()

    def flow(self):
        """What was held back passes, and all that follows."""
        self._flows.set()

    def forget(self):
        """Connections so far stay stalled for ever; new ones pass."""
        self._flows = threading.Event()
        self._flows.set()

    def cut(self):
        """Breaks all connections."""
        for pair in self._pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._pairs.clear()


def find_program(name):
    """Path of a program, or None."""
    return shutil.which(name)
