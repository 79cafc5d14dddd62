# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging of the two programs: with a priority for the journal, with the time for a terminal."""

from __future__ import annotations

import logging
import os

from .errors import InvalidValue

LEVELS = ("debug", "info", "warning", "error")

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class JournalFormatter(logging.Formatter):
    """Puts the priority in front of each line (sd-daemon(3)); the journal knows the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def set_up(level: str) -> None:
    """Sends the logs to standard error, at ``level`` (``debug``, ``info``, ``warning``, ``error``)."""
    if level.lower() not in LEVELS:
        raise InvalidValue(f"the log level '{level}' is unknown", f"use one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler()
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
