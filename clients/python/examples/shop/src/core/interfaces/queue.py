# SPDX-License-Identifier: Apache-2.0
"""What carries jobs, as the application sees it."""

from millrace.jobs import QueueBackend

__all__ = ["QueueBackend"]
