# SPDX-License-Identifier: Apache-2.0
"""The programs that these tests run against, each with its own folder and free ports; none outlives the tests."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[3]
BIN = pathlib.Path(os.environ.get("MILLRACE_BIN", REPOSITORY / "build" / "bin"))
SOON_S = 60.0


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = SOON_S) -> None:
    """Waits for a condition, with a deadline."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A process with its log."""

    def __init__(self, name: str, folder: pathlib.Path, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{name}.log"
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        python_path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                guard + command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": python_path, **(environment or {})},
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, ready: Callable[[], object]) -> None:
        """Waits until it is ready; shows its log if it never is."""
        end = time.monotonic() + SOON_S
        while not ready():
            if not self.is_alive() or time.monotonic() > end:
                log = self.log
                self.kill()
                raise AssertionError(f"{self.name} did not start:\n{log[-6000:]}")
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, and after a while SIGKILL."""
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SOON_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_millraced(folder: pathlib.Path) -> tuple[Program, str]:
    """A service with an empty store; returns its address too."""
    ports = folder / "ports.json"
    flags = ["--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0"]
    command = [str(BIN / "millraced"), "--data-dir", str(folder / "data"), "--port-file", str(ports), *flags]
    program = Program("millraced", folder, command)
    program.wait_for(ports.exists)
    return program, f"127.0.0.1:{json.loads(ports.read_text(encoding='utf-8'))['grpc']}"


def start_worker(
    folder: pathlib.Path,
    address: str,
    app: str,
    queues: str,
    concurrency: int,
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> Program:
    """A `millrace-worker`."""
    command = [sys.executable, "-m", "millrace.worker.cli", "--app", app, "--queues", queues, "--concurrency", str(concurrency), *flags]
    return Program(f"worker-{queues.replace(':', '-')}", folder, command, {"MILLRACE_ADDRESS": address, **(environment or {})})


def start_redis(folder: pathlib.Path, *, durable: bool = False) -> tuple[Program, int]:
    """A Redis that writes no files, or each change before it answers; another port when somebody was faster."""
    files = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    for _ in range(5):
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *files]
        program = Program("redis", folder, command)
        wait_until(lambda: not program.is_alive() or "Ready to accept connections" in program.log, "redis starts")  # noqa: B023
        if program.is_alive():
            return program, port
    raise AssertionError(f"redis did not start:\n{program.log}")


def start_celery(folder: pathlib.Path, environment: Mapping[str, str], queues: str, concurrency: int, *, beat: bool) -> Program:
    """A Celery worker for the contract's handlers, with celery-redbeat inside if asked for."""
    command = [sys.executable, "-m", "celery", "-A", "contract_celery", "worker", "--hostname", f"{queues}@test", "--queues", queues]
    command += ["--concurrency", str(concurrency), "--prefetch-multiplier", "1", "--loglevel", "INFO"]
    if beat:
        command += ["--beat", "--scheduler", "redbeat.RedBeatScheduler"]
    program = Program(f"celery-{queues.replace(',', '-')}", folder, command, environment)
    program.wait_for(lambda: " ready." in program.log)
    return program
