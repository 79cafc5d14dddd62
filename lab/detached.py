# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a process that outlives the command and the session that started it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.settings import ROOT

# It exists where systemd is this host's PID 1: sd_booted(3).
SYSTEMD = Path("/run/systemd/system")


def start(module: str, arguments: Sequence[str], name: str, log: Path, wrapper: Sequence[str] = ()) -> bool:
    """Start `python -m module arguments`, run by the command `wrapper` if given; return whether it started.

    Its output goes to the end of `log`; `name` is a part of its systemd unit's name.
    """
    command = [*_detach_command(name, log), *wrapper, sys.executable, "-m", module, *arguments]
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


def _detach_command(name: str, log: Path) -> list[str]:
    if not SYSTEMD.is_dir():
        return ["setsid", "--fork"]
    # A new name each time: systemd may still be removing the last unit.
    unit = f"jaywalk-lab-{name}-{secrets.token_hex(4)}"
    settings = ("Delegate=yes", f"StandardOutput=append:{log}", f"StandardError=append:{log}")
    options = [f"--property={setting}" for setting in settings]
    return ["systemd-run", "--quiet", "--collect", f"--unit={unit}", "--setenv=PYTHONPATH", *options]
