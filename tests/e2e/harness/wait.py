# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition, with a deadline. Tests never sleep to pass."""
import os
import time

# The programs were built with a sanitizer. They are slow then, and need memory that is not theirs: neither can be judged.
SANITIZED = os.environ.get("PRESET") in ("asan", "tsan")
# How much longer than usual all may take.
PATIENCE = float(os.environ.get("MILLRACE_TEST_PATIENCE", "3" if SANITIZED else "1"))
# Everything that should happen "at once" gets this long: the machine may be busy.
SOON_S = 60.0 * PATIENCE


def wait_until(condition, what="the condition", timeout_s=SOON_S, every_s=0.02):
    """Calls `condition` until it answers something true, and returns that. An AssertionError raised by it counts as "not yet"."""
    end = time.monotonic() + timeout_s
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s:.0f} s; last seen: {last!r}")
        time.sleep(every_s)


def never(condition, what, for_s):
    """Checks that `condition` stays false for a while: the only honest way to see that nothing happens."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        seen = condition()
        assert not seen, f"{what}: {seen!r}"
        time.sleep(0.02)
