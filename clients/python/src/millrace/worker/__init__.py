# SPDX-License-Identifier: Apache-2.0
"""Runs handlers: `Worker`, or the command `millrace-worker`."""

from millrace.worker._worker import Worker

__all__ = ["Worker"]
