# SPDX-License-Identifier: Apache-2.0
"""Jobs in memory, for tests."""

from millrace.jobs.memory import MemoryQueueBackend

__all__ = ["MemoryQueueBackend"]
