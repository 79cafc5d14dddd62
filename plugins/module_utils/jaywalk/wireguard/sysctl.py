# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes kernel settings (sysctl(8)) in the network namespace of a runner."""

from __future__ import annotations

from ..core.runner import Runner, run_checked


def write(runner: Runner, setting: str, value: str) -> None:
    """Writes a kernel setting such as ``net/ipv4/conf/wg0/rp_filter``, in the runner's network namespace.

    Uses ``tee``, since not every machine has sysctl(8).
    """
    run_checked(runner, ["tee", f"/proc/sys/{setting}"], f"{value}\n")


def read(runner: Runner, setting: str) -> str:
    """The value of a kernel setting; empty where there is no such setting."""
    shown = runner.run(["cat", f"/proc/sys/{setting}"])
    return shown.stdout.strip() if shown.returncode == 0 else ""
