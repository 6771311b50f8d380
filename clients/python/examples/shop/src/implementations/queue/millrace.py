# SPDX-License-Identifier: Apache-2.0
"""Jobs by Millrace."""

from millrace.jobs.service import MillraceQueueBackend

__all__ = ["MillraceQueueBackend"]
