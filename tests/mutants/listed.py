# SPDX-License-Identifier: GPL-3.0-or-later
"""All mutants."""

from __future__ import annotations

from .addresses import ADDRESSES
from .commits import COMMITS
from .members import MEMBERS

MUTANTS = (*ADDRESSES, *MEMBERS, *COMMITS)
