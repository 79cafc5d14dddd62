# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's fixtures."""

from tests.agent_support import stop as stop
