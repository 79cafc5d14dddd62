# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats log lines of both programs, for the journal (sd-daemon(3) priorities) or a terminal."""

from __future__ import annotations

import logging
import os
import sys

from ..core.errors import InvalidValue
from ..core.text import printable, printable_lines

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class OneLine(logging.Formatter):
    """Prevents line breaks in messages, which a node could send; each line of a traceback has a priority."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self.journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, with a priority in front of each line for the journal."""
        record.msg, record.args = printable(record.getMessage()), ()
        # A traceback quotes the texts of errors.
        text = printable_lines(super().format(record))
        if not self.journal:
            return text
        prefix = f"<{_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in text.splitlines())


def _priority(level: int) -> int:
    """The priority of syslog(3) for a level of logging."""
    if level >= logging.CRITICAL:
        return 2
    return {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}.get(level, 7)


def set_up(level: str) -> None:
    """Logs to standard error from ``level`` on; raises ``InvalidValue`` if there is no such level."""
    if level.lower() not in LEVELS:
        raise InvalidValue(f"the log level '{level}' is unknown", f"use one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=LEVELS[level.lower()], handlers=[handler], force=True)
