# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``jaywalk status`` shows: the zone from the snapshot beside the interface as it is now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from jaywalk import driver, plan
from jaywalk.errors import JaywalkError
from jaywalk.interface import Observed, ObservedPeer
from jaywalk.models import Peer
from jaywalk.retention import RETAIN_SECONDS
from jaywalk.runner import Runner
from jaywalk.zonelog import ZoneView

from . import outcomes, running, snapshot
from .agent import node_of
from .dataplane import DataPlane
from .outcomes import Outcome
from .settings import Settings


def gather(settings: Settings, runner: Runner, now: float | None = None) -> dict[str, Any]:
    """All that is known of this node in its zone, for JSON; raises ``JaywalkError`` where nothing is."""
    moment = time.time() if now is None else now
    view = snapshot.load(settings.snapshot_file, settings.zone)
    observed = driver.of_this_machine(runner).observe(settings.interface)
    agent = _agent(settings)
    if view is None:
        raise JaywalkError(
            f"this node has not joined zone {settings.zone}",
            agent["trouble"] or f"run 'jaywalk up' or start jaywalk-agent@{settings.zone}",
        )
    public_key = settings.existing_key(runner)
    own = view.peers.get(public_key)
    found = outcomes.load(settings.paths_file)
    return {
        "zone": settings.zone,
        "interface": settings.interface,
        "wireguard": observed.kind if observed else "",
        "public_key": public_key,
        "addresses": list(own.addresses) if own else [],
        "prefixes": list(own.prefixes) if own else [],
        "endpoint": own.endpoint if own else "",
        "position": view.position,
        "agent": agent,
        "differences": _differences(settings, runner, view, public_key, found),
        "peers": [
            _peer(record, observed, moment)
            | _path(record, observed, moment, view, found)
            | _retained(record, view)
            for record in sorted(view.peers.values(), key=lambda each: (each.name, each.key))
            if record.key != public_key
        ],
    }


def _agent(settings: Settings) -> dict[str, Any]:
    """How the agent says it is; until it has said anything it is taken to wait for the zone."""
    alive = running.is_running(settings.lock_file)
    report = running.Report.read(settings.status_file) if alive else None
    if report is not None and not running.is_alive(report.pid):
        report = None  # the word of one that ran before
    return {
        "running": alive,
        "pid": report.pid if report else None,
        "trouble": report.trouble if report else "",
        "waiting": alive and (report is None or report.waiting),
    }


def _differences(
    settings: Settings, runner: Runner, view: ZoneView, public_key: str, found: Mapping[str, Outcome]
) -> list[str]:
    """What a plan would do now; empty while the interface equals the zone."""
    try:
        hosts = settings.controller_hosts()
        plane = DataPlane(runner, node_of(settings, public_key), hosts)
        plane.ways = {key: each.way for key, each in found.items()}
        _, steps = plane.plan(view)
    except JaywalkError as error:
        return [str(error)]
    return list(plan.commands(steps)) or (["create the interface"] if steps else [])


def _peer(record: Peer, observed: Observed | None, now: float) -> dict[str, Any]:
    seen = observed.peers.get(record.key) if observed else None
    age = round(now - seen.handshake) if seen and seen.handshake else None
    return {
        "name": record.name,
        "public_key": record.key,
        "addresses": list(record.addresses),
        "prefixes": list(record.prefixes),
        "endpoint": seen.endpoint if seen and seen.endpoint else record.endpoint,
        "handshake_age": age,
        "received": seen.received if seen else 0,
        "sent": seen.sent if seen else 0,
        "state": _state(seen, age),
    }


def _path(
    record: Peer, observed: Observed | None, now: float, view: ZoneView, found: Mapping[str, Outcome]
) -> dict[str, Any]:
    """How the peer is reached: as the agent found, or, where it has nothing to find, as WireGuard shows."""
    seen = observed.peers.get(record.key) if observed else None
    fresh = seen is not None and now - seen.handshake < plan.SETTLED_SECONDS
    outcome = found.get(record.key)
    if outcome is None or outcome.path == outcomes.PLAIN:
        return {"path": "direct" if fresh else "none", "via": None}
    relay = view.peers.get(outcome.relay)
    return {"path": outcome.path, "via": relay.name if relay is not None else None}


def _retained(record: Peer, view: ZoneView) -> dict[str, Any]:
    """Whether the controller lost this peer: the epoch that last listed it, and until when it stays."""
    mark = view.retained.get(record.key)
    until = None if mark is None else round(mark.since + RETAIN_SECONDS)
    return {"retained_from": mark.epoch if mark else None, "retained_until": until}


def _state(seen: ObservedPeer | None, age: int | None) -> str:
    if seen is None:
        return "missing"
    if age is None:
        return "never"
    return "connected" if age < plan.SETTLED_SECONDS else "silent"


def in_order(status: dict[str, Any]) -> bool:
    """Whether the interface equals the zone, and the agent follows it and has all that it asked for."""
    agent = status["agent"]
    content = agent["running"] and not agent["waiting"] and not agent["trouble"]
    return bool(status["wireguard"]) and content and not status["differences"]


def table(status: dict[str, Any]) -> str:
    """The status for a person."""
    agent = status["agent"]
    rows = [
        ("zone", status["zone"]),
        ("interface", f"{status['interface']} ({status['wireguard'] or 'down'})"),
        ("address", ", ".join(status["addresses"]) or "none"),
        ("child prefixes", ", ".join(status["prefixes"]) or "none"),
        ("endpoint", status["endpoint"] or "none"),
        ("agent", f"running, pid {agent['pid']}" if agent["running"] else "not running"),
        ("revision", status["position"]),
        ("in order", "yes" if not status["differences"] else f"no: {'; '.join(status['differences'][:3])}"),
    ]
    if agent["trouble"]:
        rows.append(("trouble", agent["trouble"]))
    peers = [
        (
            peer["name"],
            ", ".join(peer["addresses"] + peer["prefixes"]),
            peer["endpoint"] or "-",
            "-" if peer["handshake_age"] is None else f"{peer['handshake_age']} s ago",
            peer["received"],
            peer["sent"],
            peer["state"]
            + (f", retained from epoch {peer['retained_from']}" if peer["retained_from"] else ""),
            peer["path"] + (f" by {peer['via']}" if peer["via"] else ""),
        )
        for peer in status["peers"]
    ]
    headers = ("PEER", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "STATE", "PATH")
    return tabulate(rows, tablefmt="plain") + "\n\n" + tabulate(peers, headers=headers, tablefmt="plain")
