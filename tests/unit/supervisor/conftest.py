# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's fixtures."""

from tests.supervisor_support import blue as blue
