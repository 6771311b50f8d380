# SPDX-License-Identifier: Apache-2.0
"""All handlers: `millrace-worker --app src.tasks`."""

from src.tasks import email, maintenance, orders

__all__ = ["email", "maintenance", "orders"]
