# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a process that outlives the command and the session which started it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.settings import ROOT

SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd is this host's PID 1: sd_booted(3)."""


def start(module: str, arguments: Sequence[str], name: str, log: Path, before: Sequence[str] = ()) -> bool:
    """Start `python -m module arguments`, behind the words of `before`; whether it could be started.

    What it says goes to the end of `log`; `name` is what a systemd unit is called by.
    """
    command = [*_detached(name, log), *before, sys.executable, "-m", module, *arguments]
    with log.open("ab") as output:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    return done.returncode == 0


def _detached(name: str, log: Path) -> list[str]:
    if not SYSTEMD.is_dir():
        return ["setsid", "--fork"]
    # A name of its own each time: systemd may still be clearing the last one away.
    unit = f"jaywalk-lab-{name}-{secrets.token_hex(4)}"
    appended = f"append:{log}"
    settings = ("Delegate=yes", f"StandardOutput={appended}", f"StandardError={appended}")
    options = [f"--property={setting}" for setting in settings]
    return ["systemd-run", "--quiet", "--collect", f"--unit={unit}", "--setenv=PYTHONPATH", *options]
