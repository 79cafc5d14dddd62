# SPDX-License-Identifier: GPL-3.0-or-later
"""The status as text: a summary, then what is broken, then the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from tabulate import tabulate

RED, YELLOW, GREEN = 31, 33, 32
MAX_REASONS = 3
UNITS = ("KiB", "MiB", "GiB", "TiB")
# The least age in seconds for a unit, the seconds of the unit, and its name.
AGES = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (180, 60, "min"), (0, 1, "s"))
HEADERS = ("PEER", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "STATE", "PATH")
Paint = Callable[[str, int], str]


def use_colours(stream: TextIO = sys.stdout) -> bool:
    """Whether to use colours: on a terminal that is not dumb, without NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def text(status: Mapping[str, Any], colour: bool = False, bad: bool = False) -> str:
    """The status as text; with ``bad`` only the problems."""
    paint = _painted if colour else _plain
    parts = [paint(summary(status), GREEN if status["in_order"] else RED)]
    facts = _problems(status) if bad else _facts(status)
    if facts:
        parts.append(tabulate(facts, tablefmt="plain"))
    peers = sorted(status["peers"], key=lambda peer: (is_healthy(peer), peer["path"] == "relayed"))
    rows = [_row(peer, paint) for peer in peers if not (bad and is_healthy(peer))]
    if rows:
        parts.append(tabulate(rows, headers=HEADERS, tablefmt="plain", disable_numparse=True))
    return "\n\n".join(parts)


def summary(status: Mapping[str, Any]) -> str:
    """The number of connected peers, and whether this node is in order."""
    peers = status["peers"]
    parts = [f"{status['connected']} of {len(peers)} peer{'s' * (len(peers) != 1)} connected"]
    if status["relayed"]:
        parts.append(f"{status['relayed']} relayed")
    retained = sum(bool(peer["retained_from"]) for peer in peers)
    if retained:
        parts.append(f"{retained} retained after the controller lost them")
    if status["not_taken"]:
        parts.append(f"{len(status['not_taken'])} record{'s' * (len(status['not_taken']) != 1)} not taken")
    parts.append("in order" if status["in_order"] else f"not in order: {_listed(status['reasons'])}")
    return ", ".join(parts)


def is_healthy(peer: Mapping[str, Any]) -> bool:
    """Whether a peer has a path and a current record."""
    return peer["path"] != "none" and peer["state"] != "missing" and not peer["retained_from"]


def size(number: int) -> str:
    """A number of bytes with its unit: ``512 B``, ``1.5 MiB``."""
    if number < 1024:
        return f"{number} B"
    power = min((number.bit_length() - 1) // 10, len(UNITS))
    return f"{number / 1024**power:.1f} {UNITS[power - 1]}"


def age(seconds: int | None) -> str:
    """An age in one unit: ``12 s ago``."""
    if seconds is None:
        return "-"
    _, unit, name = next(row for row in AGES if seconds >= row[0] or not row[0])
    return f"{seconds // unit} {name} ago"


def _listed(reasons: Sequence[str]) -> str:
    more = len(reasons) - MAX_REASONS
    return "; ".join(reasons[:MAX_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _problems(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    problems = [("problem", reason) for reason in status["reasons"]]
    return [*problems, *(row for row in _lock_facts(status) if row[0] == "not taken")]


def _facts(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    agent = status["agent"]
    link = f"{status['wireguard']}, UDP {status['listen_port']}, MTU {status['mtu']}" + (
        "" if status["up"] else ", link down"
    )
    rows = [
        ("zone", status["zone"]),
        ("interface", f"{status['interface']} ({link if status['wireguard'] else 'down'})"),
        ("address", ", ".join(status["addresses"]) or "none"),
        ("child prefixes", ", ".join(status["prefixes"]) or "none"),
        ("endpoint", status["endpoint"] or "none"),
        ("agent", f"running, pid {agent['pid']}" if agent["running"] else "not running"),
        ("version", status["version"]),
        ("revision", status["position"]),
        ("in order", "yes" if status["in_order"] else f"no: {_listed(status['reasons'])}"),
    ]
    if agent["trouble"]:
        rows.append(("problem", agent["trouble"]))
    return [*rows, *_lock_facts(status)]


def _lock_facts(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The mesh lock, and what of the zone is not taken."""
    lock, not_taken = status["lock"], status["not_taken"]
    rows = []
    if lock is not None:
        serial = "no signed statement yet" if lock["serial"] is None else f"statement {lock['serial']}"
        rows.append(("mesh lock", f"{', '.join(lock['keys'])}, {serial}"))
    rows += [("not taken", record["reason"]) for record in not_taken[:MAX_REASONS]]
    if len(not_taken) > MAX_REASONS:
        rows.append(("not taken", f"{len(not_taken) - MAX_REASONS} more records (jaywalk status --json)"))
    return rows


def _row(peer: Mapping[str, Any], paint: Paint) -> tuple[str, ...]:
    state = peer["state"]
    if peer["retained_from"]:
        state += f", retained from epoch {peer['retained_from']}"
    path = peer["path"] + (f" by {peer['via']}" if peer["via"] else "")
    colour = {"none": RED, "relayed": YELLOW}.get(peer["path"])
    return (
        peer["name"],
        ", ".join(peer["addresses"] + peer["prefixes"]),
        peer["endpoint"] or "-",
        age(peer["handshake_age"]),
        size(peer["received"]),
        size(peer["sent"]),
        paint(state, RED) if not is_healthy(peer) else state,
        paint(path, colour) if colour else path,
    )


def _plain(text: str, _colour: int) -> str:
    return text


def _painted(text: str, colour: int) -> str:
    return f"\033[{colour}m{text}\033[0m"
