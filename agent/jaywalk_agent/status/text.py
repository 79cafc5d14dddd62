# SPDX-License-Identifier: GPL-3.0-or-later
"""The status for a person: how many peers are connected first, then what is broken, then all else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from tabulate import tabulate

RED, YELLOW, GREEN = 31, 33, 32
SHOWN_REASONS = 3
UNITS = ("KiB", "MiB", "GiB", "TiB")
AGES = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (180, 60, "min"), (0, 1, "s"))
"""From how many seconds on, in which unit."""
HEADERS = ("PEER", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "STATE", "PATH")
Paint = Callable[[str, int], str]


def colours_wanted(stream: TextIO = sys.stdout) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR (no-color.org) or a dumb terminal says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def text(status: Mapping[str, Any], colour: bool = False, bad: bool = False) -> str:
    """The status as text; with ``bad`` only what is not well."""
    paint = _painted if colour else _plain
    parts = [paint(summary(status), GREEN if status["in_order"] else RED)]
    facts = _trouble(status) if bad else _facts(status)
    if facts:
        parts.append(tabulate(facts, tablefmt="plain"))
    peers = sorted(status["peers"], key=lambda peer: (is_well(peer), peer["path"] == "relayed"))
    rows = [_row(peer, paint) for peer in peers if not (bad and is_well(peer))]
    if rows:
        parts.append(tabulate(rows, headers=HEADERS, tablefmt="plain", disable_numparse=True))
    return "\n\n".join(parts)


def summary(status: Mapping[str, Any]) -> str:
    """How many peers are connected, and whether this node is in order."""
    peers = status["peers"]
    parts = [f"{status['connected']} of {len(peers)} peer{'s' * (len(peers) != 1)} connected"]
    if status["relayed"]:
        parts.append(f"{status['relayed']} relayed")
    retained = sum(bool(peer["retained_from"]) for peer in peers)
    if retained:
        parts.append(f"{retained} kept although the controller lost them")
    parts.append("in order" if status["in_order"] else f"not in order: {_listed(status['reasons'])}")
    return ", ".join(parts)


def is_well(peer: Mapping[str, Any]) -> bool:
    """Whether a peer needs nobody's attention."""
    return peer["path"] != "none" and peer["state"] != "missing" and not peer["retained_from"]


def size(number: int) -> str:
    """Bytes as people read them: ``512 B``, ``1.5 MiB``."""
    if number < 1024:
        return f"{number} B"
    power = min((number.bit_length() - 1) // 10, len(UNITS))
    return f"{number / 1024**power:.1f} {UNITS[power - 1]}"


def age(seconds: int | None) -> str:
    """How long ago, in one unit."""
    if seconds is None:
        return "-"
    _, unit, name = next(each for each in AGES if seconds >= each[0] or not each[0])
    return f"{seconds // unit} {name} ago"


def _listed(reasons: Sequence[str]) -> str:
    more = len(reasons) - SHOWN_REASONS
    return "; ".join(reasons[:SHOWN_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _trouble(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("trouble", reason) for reason in status["reasons"]]


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
        rows.append(("trouble", agent["trouble"]))
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
        paint(state, RED) if not is_well(peer) else state,
        paint(path, colour) if colour else path,
    )


def _plain(words: str, _colour: int) -> str:
    return words


def _painted(words: str, colour: int) -> str:
    return f"\033[{colour}m{words}\033[0m"
