# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads and writes kernel settings (sysctl(8)) in the network namespace of a runner."""

from __future__ import annotations

from ..core.runner import Runner, run_checked


def keep(runner: Runner, setting: str, value: str) -> None:
    """Sets a kernel setting such as ``net/ipv4/conf/wg0/rp_filter``, in the runner's network namespace.

    By ``tee``, since not every machine has sysctl(8).
    """
    run_checked(runner, ["tee", f"/proc/sys/{setting}"], f"{value}\n")


def kept(runner: Runner, setting: str) -> str:
    """What :func:`keep` has set, or somebody else; empty where there is no such setting."""
    shown = runner.run(["cat", f"/proc/sys/{setting}"])
    return shown.stdout.strip() if shown.returncode == 0 else ""
