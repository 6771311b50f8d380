# SPDX-License-Identifier: Apache-2.0
"""Jobs by Celery, as long as there are workers of it."""

from millrace.jobs.celery import CeleryQueueBackend

__all__ = ["CeleryQueueBackend"]
