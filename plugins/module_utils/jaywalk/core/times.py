# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments that several parts compare a clock with, in seconds since 1970."""

from __future__ import annotations

# The start of 2025, before the first version: a clock with an earlier time is not set yet.
UNSET_BEFORE = 1_735_689_600.0
