# SPDX-License-Identifier: Apache-2.0
"""`millrace top` as a person sees it: run on a pseudo-terminal whose screen is emulated."""
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading

import pyte
import pytest

from harness import api
from harness.server import BIN
from harness.tools import environment, millrace
from harness.wait import SOON_S, wait_until
from harness.worker import HOLD

LINES, COLUMNS = 24, 140


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, server, *arguments):
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self._near, far = pty.openpty()
        self.before = termios.tcgetattr(far)
        self.resize(LINES, COLUMNS)
        self.process = subprocess.Popen([str(BIN / "millrace"), "top", *arguments], stdin=far, stdout=far, stderr=far,
                                        start_new_session=True, env={**environment(server), "TERM": "xterm"})
        self._far = far
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        try:
            while data := os.read(self._near, 65536):
                with self._lock:
                    self._stream.feed(data)
        except OSError:
            pass

    def resize(self, lines, columns):
        """As when the window is dragged."""
        fcntl.ioctl(self._near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with self._lock:
            self.screen.resize(lines, columns)

    def lines(self):
        """What stands on the screen."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    def line(self, start):
        """The line that begins so, or None."""
        return next((line for line in self.lines() if line.startswith(start)), None)

    def press(self, keys):
        """Types."""
        os.write(self._near, keys)

    def attributes(self):
        """Of the terminal: as it was, once the program has ended."""
        return termios.tcgetattr(self._far)

    def close(self):
        """Ends the program if need be."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._far)
        os.close(self._near)


@pytest.fixture(name="top")
def _top():
    terminals = []

    def make(server, *arguments):
        terminals.append(Terminal(server, *arguments))
        return terminals[-1]

    yield make
    for terminal in terminals:
        terminal.close()


def cells(line):
    """Of a line, without the name."""
    return line.split()[1:]


def test_queues_and_workers_live(server, make_worker, top):
    client = server.client
    client.create_many([api.JobSpec(task="work", queue="alone")] * 1234)
    make_worker(server, ["mail"], handler=lambda delivery: HOLD, concurrency=4)
    client.create_many([api.JobSpec(task="work", queue="mail")] * 5)
    client.PauseQueue(name="held")
    terminal = top(server, "--interval", "200ms")
    wait_until(lambda: terminal.line("mail") and cells(terminal.line("mail"))[2] == "4", "four run")
    assert server.target in terminal.lines()[0] and "workers 1" in terminal.lines()[1]
    alone = terminal.line("alone")
    assert cells(alone)[0] == "1,234" and alone.endswith("no worker")
    assert terminal.line("held").endswith("paused")
    assert terminal.line("QUEUE") and terminal.line("WORKER")
    assert any("4/4" in line and "active" in line for line in terminal.lines())
    # The highest first; it lives; and another order.
    order = [line.split()[0] for line in terminal.lines() if line.split()[:1] and line.split()[0] in ("alone", "mail", "held")]
    assert order == ["alone", "mail", "held"]
    client.PurgeQueue(name="alone")
    wait_until(lambda: cells(terminal.line("alone"))[0] == "0", "the purge shows")
    terminal.press(b"ssss")
    wait_until(lambda: "by name" in terminal.lines()[1], "another order")
    names = [line.split()[0] for line in terminal.lines() if line.split()[:1] and line.split()[0] in ("alone", "mail", "held")]
    assert names == ["alone", "held", "mail"]


def test_q_quits_and_leaves_the_terminal_as_it_was(server, top):
    terminal = top(server)
    wait_until(lambda: terminal.line("QUEUE"), "it is there")
    assert terminal.attributes()[3] != terminal.before[3]  # no echo
    terminal.press(b"q")
    assert terminal.process.wait(SOON_S) == 0
    assert terminal.attributes() == terminal.before


def test_a_server_that_goes_and_comes(server, top):
    terminal = top(server, "--interval", "100ms")
    wait_until(lambda: "version" in terminal.lines()[1], "it is there")
    server.kill()
    wait_until(lambda: "cannot reach" in terminal.lines()[1], "it says so")
    server.start()
    wait_until(lambda: "version" in terminal.lines()[1], "it is back")


def test_a_small_window_and_scrolling(server, top):
    for i in range(30):
        server.client.create(queue=f"q{i:02d}")
    terminal = top(server, "--interval", "200ms")
    wait_until(lambda: terminal.line("q00"), "the first")
    assert not terminal.line("q29")
    terminal.press(b"\x1b[6~" * 2 + b"\x1b[B" * 5)
    wait_until(lambda: terminal.line("q25") and not terminal.line("q00"), "further down")
    terminal.resize(10, 60)
    terminal.process.send_signal(signal.SIGWINCH)
    wait_until(lambda: terminal.line("WORKER") and len(terminal.line("WORKER")) <= 60, "drawn anew")
    assert terminal.process.poll() is None


def test_without_a_terminal_or_a_server(server):
    assert "needs a terminal" in millrace(server, "top", code=2).err
