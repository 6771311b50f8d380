# SPDX-License-Identifier: Apache-2.0
"""The contract's handlers as Millrace's: `millrace-worker --app contract_millrace`."""

import document_handlers
from contract_handlers import define

from millrace.jobs import SoftTimeLimitExceeded, shared_task

define(shared_task, SoftTimeLimitExceeded)
document_handlers.define(shared_task)
