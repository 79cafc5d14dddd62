# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A systemd unit and the files that it read at its start, internal to this collection."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .jaywalk.core.runner import Runner

PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "ExecMainStartTimestamp")
UNITS_FOLDER = "/etc/systemd/"
# The number of the journal's lines in an error.
JOURNAL_LINES = 10


@dataclass(frozen=True)
class Service:
    """The state of a unit.

    ``needs_reload`` says that systemd must read the unit's files again.  ``outdated`` lists the files that
    were written after the start of the unit's main process.
    """

    active: bool
    enabled: bool
    needs_reload: bool
    masked: bool = False
    outdated: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Returns the state in the form of a diff's lines."""
        newer = ", ".join(self.outdated) or ("the unit" if self.needs_reload else "")
        settings = f"from before {newer} was written" if newer else "current"
        return [
            f"active {'yes' if self.active else 'no'}",
            f"enabled {'yes' if self.enabled else 'no'}",
            f"settings {settings}",
        ]


def observe(runner: Runner, name: str, files: Sequence[str]) -> Service:
    """Returns the current state of the unit."""
    argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", name]
    found = dict(line.partition("=")[::2] for line in runner.run(argv).stdout.splitlines())
    active = found.get("ActiveState") in ("active", "reloading")
    started = _seconds(found.get("ExecMainStartTimestamp", ""))
    return Service(
        active=active,
        enabled=found.get("UnitFileState") == "enabled",
        needs_reload=found.get("NeedDaemonReload") == "yes",
        masked=found.get("LoadState") == "masked",
        outdated=tuple(path for path in files if active and _modified_at(path) > started),
    )


def actions(service: Service, files: Sequence[str], changed: bool) -> list[str]:
    """Returns the needed commands of `systemctl`.

    ``changed`` says that this run changed settings, or would change them in check mode.
    """
    steps = []
    if not service.enabled:
        steps.append("enable")
    if not service.active:
        steps.append("start")
    elif service.outdated or service.needs_reload or changed:
        steps.append("restart")
    # NeedDaemonReload does not notice a new folder of drop-ins.
    has_units = any(path.startswith(UNITS_FOLDER) for path in files)
    if service.needs_reload or (has_units and steps):
        steps.insert(0, "daemon-reload")
    return steps


def perform(runner: Runner, name: str, steps: Sequence[str]) -> str:
    """Runs the commands; returns the journal's lines about the first one that fails, or an empty text."""
    shown = runner.run(["journalctl", "--lines=0", "--show-cursor"]).stdout
    cursor = shown.strip().rpartition(": ")[2]
    for step in steps:
        argv = ["systemctl", step] if step == "daemon-reload" else ["systemctl", step, name]
        done = runner.run(argv)
        if done.returncode:
            return _journal(runner, name, cursor) or done.stderr.strip()
    return ""


def _journal(runner: Runner, name: str, cursor: str) -> str:
    """Returns the last lines of unit and systemd after ``cursor``, without duplicates."""
    since = [f"--after-cursor={cursor}"] if cursor else [f"--lines={JOURNAL_LINES}"]
    shown = runner.run(["journalctl", f"--unit={name}", "--output=cat", "--no-pager", *since])
    lines = [line for line in shown.stdout.splitlines() if not line.startswith("-- ")]
    starts = [number for number, line in enumerate(lines) if line.startswith("Starting ")]
    # The lines before "Starting" belong to the end of the previous run.
    relevant = lines[starts[0] :] if starts else lines
    return "; ".join(
        [line for line in dict.fromkeys(relevant) if not line.startswith("Starting ")][-JOURNAL_LINES:]
    )


def reason(stdout: str, stderr: str) -> str:
    """Returns why a health check failed: the reasons in its JSON status, else its last line."""
    try:
        return "; ".join(json.loads(stdout)["reasons"])
    except (ValueError, KeyError, TypeError):
        lines = (stderr.strip() or stdout.strip()).splitlines()
        return lines[-1] if lines else "it printed no reason"


def summary(stdout: str) -> dict[str, Any] | None:
    """Returns a node's identity from its status in JSON, and the keys of peers with its requested name."""
    try:
        status = json.loads(stdout)
        found = {key: status[key] for key in ("zone", "public_key", "name", "requested_name")}
        peers = status["peers"]
        found["namesakes"] = [peer["public_key"] for peer in peers if peer["name"] == found["requested_name"]]
    except (ValueError, KeyError, TypeError):
        return None
    return found


def _seconds(text: str) -> float:
    """Converts a time of `systemctl` (``Sun 2026-11-29 10:59:22.123456 UTC``) to seconds since 1970."""
    try:
        parsed = datetime.strptime(f"{text.partition(' ')[2]}+0000", "%Y-%m-%d %H:%M:%S.%f UTC%z")
    except ValueError:
        return 0.0
    return parsed.timestamp()


def _modified_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
