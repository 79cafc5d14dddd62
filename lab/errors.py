# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in a lab, each as one sentence for the person at the keyboard."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked; the text names the value and the remedy."""


class Unreachable(LabError):
    """A machine did not answer over ssh in time (cut off, frozen, off, or still booting)."""


class CommandFailed(LabError):
    """A command on a machine or on this host ended with a code that is not 0."""
