# SPDX-License-Identifier: Apache-2.0
"""Time travel: shifts the wall clock of a real process with libfaketime. The monotonic clock stays true."""
import os
import pathlib
import time

import pytest

LIBRARIES = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
             "/usr/lib/faketime/libfaketimeMT.so.1"]


class Clock:
    """A wall clock that a process sees: ours plus an offset that can be moved while it runs."""

    def __init__(self, directory):
        self.library = next((path for path in LIBRARIES if os.path.exists(path)), None)
        if self.library is None:
            if os.environ.get("CI") == "true":
                pytest.fail("libfaketime is not installed")
            pytest.skip("needs libfaketime")
        self._file = pathlib.Path(directory) / "faketime"
        self.offset_s = 0.0
        self._write()

    def _write(self):
        part = self._file.with_suffix(".part")
        part.write_text(f"{self.offset_s:+.3f}\n", encoding="ascii")
        part.rename(self._file)

    def now(self):
        """What the process sees."""
        return time.time() + self.offset_s

    def advance(self, by_s):
        """Moves the clock."""
        self.offset_s += by_s
        self._write()

    def set(self, unix_s):
        """Sets the clock to a moment, from which it runs on."""
        self.offset_s = unix_s - time.time()
        self._write()

    def environment(self):
        """For the process."""
        return {"LD_PRELOAD": self.library, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0",
                "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")}
