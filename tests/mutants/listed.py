# SPDX-License-Identifier: GPL-3.0-or-later
"""All mutants."""

from __future__ import annotations

from .addresses import ADDRESSES
from .commits import COMMITS
from .keeping import KEEPING
from .losses import LOSSES
from .members import MEMBERS
from .times import TIMES

MUTANTS = (*ADDRESSES, *MEMBERS, *COMMITS, *TIMES, *KEEPING, *LOSSES)
