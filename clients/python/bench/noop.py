# SPDX-License-Identifier: Apache-2.0
"""The handler that both systems run."""

from millrace import task


@task
def noop(data: str) -> None:
    """Does nothing."""
