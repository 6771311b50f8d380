# SPDX-License-Identifier: Apache-2.0
"""Soft time limits: an exception raised inside a handler that takes too long."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class SoftTimeLimitExceeded(Exception):
    """The handler has run for longer than its `soft_time_limit`; it can catch this to clean up."""


@contextmanager
def soft_time_limit(seconds: float | None) -> Iterator[None]:
    """Raises SoftTimeLimitExceeded in the code within when it takes longer. None: no limit.

    In a process's main thread a signal does it, which also interrupts a call that blocks. In other threads the exception comes as soon as
    Python code runs again.
    """
    if seconds is None:
        yield
    elif threading.current_thread() is threading.main_thread():
        with _by_signal(seconds):
            yield
    else:
        with _by_thread(seconds):
            yield


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded(f"the soft time limit of {seconds:g} s is over")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    lock = threading.Lock()
    over = False

    def interrupt() -> None:
        with lock:
            if not over:
                set_exception(thread, ctypes.py_object(SoftTimeLimitExceeded))

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
            set_exception(thread, None)  # one that was set and has not come yet must not hit what follows
        timer.cancel()
