# SPDX-License-Identifier: Apache-2.0
"""A small web shop on FastAPI whose slow work runs as background jobs."""
