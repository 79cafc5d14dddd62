# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of a lab; each message is one sentence for the user."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot fulfil a request; the message names the value and the remedy."""


class Unreachable(LabError):
    """A machine did not answer over ssh in time (cut off, frozen, off, or still booting)."""


class CommandFailed(LabError):
    """A command on a machine or on this host ended with a non-zero exit code."""
