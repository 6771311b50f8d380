# SPDX-License-Identifier: Apache-2.0
"""The real millraced for tests, and workers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("MILLRACE_BIN", CLIENT.parent.parent / "build" / "bin"))
SOON_S = 60.0


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = SOON_S) -> Any:
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return value


class Millraced:
    """A server with a data folder of its own; it can be killed and started again on the same ports."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder = folder
        self._flags = flags
        self._ports = {"grpc": 0, "worker": 0, "monitor": 0}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports['grpc']}"

    @property
    def worker_port(self) -> int:
        return self._ports["worker"]

    def start(self) -> Millraced:
        port_file = self._folder / "ports.json"
        port_file.unlink(missing_ok=True)
        command = [str(BIN / "millraced"), "--data-dir", str(self._folder / "data"), "--port-file", str(port_file), *self._flags]
        for flag, name in (("--listen", "grpc"), ("--worker-listen", "worker"), ("--monitor-listen", "monitor")):
            command += [flag, f"127.0.0.1:{self._ports[name]}"]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def ports() -> dict[str, int] | None:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log").read_text()
            try:
                known: dict[str, int] = json.loads(port_file.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                return None
            return known

        known = wait_until(ports, "millraced tells its ports")
        self._ports = {name: known[name] for name in self._ports}
        return self

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(SOON_S) == 0


class WorkerProcess:
    """A `millrace-worker` (or another program) with its output in a file."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self._log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env={**os.environ, **environment}, cwd=CLIENT / "tests"
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None or text in self.log, f"ended with {self.process.returncode}:\n{self.log}"
            return text in self.log

        wait_until(said, f"{text!r} in the worker's log")

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SOON_S)
