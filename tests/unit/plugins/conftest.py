# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the modules' tests: a scripted machine, and a runner of modules on it."""

from __future__ import annotations

from tests.ansible_modules import machine as machine
from tests.ansible_modules import run_module as run_module
