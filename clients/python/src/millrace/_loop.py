# SPDX-License-Identifier: Apache-2.0
"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from millrace.errors import CallCancelled

R = TypeVar("R")


class LoopThread:
    """Runs coroutines for other threads, until stopped. The thread ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="millrace-sync", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """The caller is on this very thread, so that waiting for it would never end."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Waits for the coroutine's result. An interrupt of the waiting thread cancels it; a stop ends it with CallCancelled."""
        with self._lock:
            if self._is_stopping:
                coroutine.close()
                raise CallCancelled("the client is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if not self._is_stopping:
                raise
            raise CallCancelled("the client was closed during the call") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Ends what still runs, so that no thread waits for it for ever, then the loop and its thread."""
        with self._lock:
            self._is_stopping = True
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
