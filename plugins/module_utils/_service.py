# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A systemd unit and the files that it read when it started, internal to this collection."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .jaywalk.core.runner import Runner

PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "ExecMainStartTimestamp")
UNITS = "/etc/systemd/"
LINES = 10
"""How many lines of the journal an error shows."""


@dataclass(frozen=True)
class Service:
    """How a unit is: ``outdated`` are the files that were written after its main process started."""

    active: bool
    enabled: bool
    reread: bool
    """Whether systemd has to read the unit's files anew."""
    masked: bool = False
    outdated: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What a diff shows."""
        older = ", ".join(self.outdated) or ("the unit" if self.reread else "")
        settings = f"those before {older} was written" if older else "those written"
        return [
            f"active {'yes' if self.active else 'no'}",
            f"enabled {'yes' if self.enabled else 'no'}",
            f"settings {settings}",
        ]


def observe(runner: Runner, name: str, files: Sequence[str]) -> Service:
    """How the unit is now."""
    argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", name]
    found = dict(line.partition("=")[::2] for line in runner.run(argv).stdout.splitlines())
    active = found.get("ActiveState") in ("active", "reloading")
    started = _moment(found.get("ExecMainStartTimestamp", ""))
    return Service(
        active=active,
        enabled=found.get("UnitFileState") == "enabled",
        reread=found.get("NeedDaemonReload") == "yes",
        masked=found.get("LoadState") == "masked",
        outdated=tuple(path for path in files if active and _written(path) > started),
    )


def actions(service: Service, files: Sequence[str], changed: bool) -> list[str]:
    """What `systemctl` has to do; ``changed`` says that a run changed settings, or would in check mode."""
    steps = []
    if not service.enabled:
        steps.append("enable")
    if not service.active:
        steps.append("start")
    elif service.outdated or service.reread or changed:
        steps.append("restart")
    # NeedDaemonReload overlooks a folder of additions that was not there before.
    has_units = any(path.startswith(UNITS) for path in files)
    if service.reread or (has_units and steps):
        steps.insert(0, "daemon-reload")
    return steps


def perform(runner: Runner, name: str, steps: Sequence[str]) -> str:
    """Takes the steps; returns what the journal has of the first that failed, or nothing."""
    shown = runner.run(["journalctl", "--lines=0", "--show-cursor"]).stdout
    cursor = shown.strip().rpartition(": ")[2]
    for step in steps:
        argv = ["systemctl", step] if step == "daemon-reload" else ["systemctl", step, name]
        done = runner.run(argv)
        if done.returncode:
            return _journal(runner, name, cursor) or done.stderr.strip()
    return ""


def _journal(runner: Runner, name: str, cursor: str) -> str:
    """The last lines about the unit after ``cursor``, its own and systemd's, none twice."""
    since = [f"--after-cursor={cursor}"] if cursor else [f"--lines={LINES}"]
    shown = runner.run(["journalctl", f"--unit={name}", "--output=cat", "--no-pager", *since])
    lines = [line for line in shown.stdout.splitlines() if not line.startswith("-- ")]
    starts = [number for number, line in enumerate(lines) if line.startswith("Starting ")]
    said = lines[starts[0] :] if starts else lines  # before it is the end of the last life
    return "; ".join([line for line in dict.fromkeys(said) if not line.startswith("Starting ")][-LINES:])


def reason(stdout: str, stderr: str) -> str:
    """Why a check failed: the reasons of a status in JSON, else the last line."""
    try:
        return "; ".join(json.loads(stdout)["reasons"])
    except (ValueError, KeyError, TypeError):
        said = (stderr.strip() or stdout.strip()).splitlines()
        return said[-1] if said else "no reason was given"


def summary(stdout: str) -> dict[str, Any] | None:
    """Who a node is by its status in JSON, and the keys of peers that have the name it asked for."""
    try:
        status = json.loads(stdout)
        found = {key: status[key] for key in ("zone", "public_key", "name", "requested_name")}
        peers = status["peers"]
        found["namesakes"] = [peer["public_key"] for peer in peers if peer["name"] == found["requested_name"]]
    except (ValueError, KeyError, TypeError):
        return None
    return found


def _moment(text: str) -> float:
    """A time of `systemctl`, such as ``Sun 2026-11-29 10:59:22.123456 UTC``, in seconds since 1970."""
    try:
        parsed = datetime.strptime(f"{text.partition(' ')[2]}+0000", "%Y-%m-%d %H:%M:%S.%f UTC%z")
    except ValueError:
        return 0.0
    return parsed.timestamp()


def _written(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
