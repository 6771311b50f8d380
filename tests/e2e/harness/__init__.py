# SPDX-License-Identifier: Apache-2.0
"""Drives the real programs, millraced and millrace, from outside."""
