# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``jaywalk status`` shows: the zone as the agent knows it beside the interface as it is now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Runner
from jaywalk.service.version import installed_version
from jaywalk.wireguard.interface import SESSION_SECONDS, Interface, Observed, ObservedPeer
from jaywalk.wireguard.plan import Plan
from jaywalk.zone.models import Peer
from jaywalk.zone.retention import RETAIN_SECONDS
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..dataplane import misrouted
from ..dataplane.interface import DataPlane, names_of
from ..host import runtime_state
from ..host.platform import PLATFORM
from ..paths import path_status
from ..paths.path_status import PathStatus
from ..zone import snapshot


class NotAMember(JaywalkError):
    """Nothing is known of the zone, and ``why``; ``shown`` says so in the form of :func:`gather`."""

    def __init__(self, why: JaywalkError, shown: dict[str, Any]) -> None:
        super().__init__(why.problem, why.remedy)
        self.shown = shown


def gather(config: AgentConfig, runner: Runner, now: float | None = None) -> dict[str, Any]:
    """All that is known of this node in its zone, for JSON; raises ``NotAMember`` where it is in none."""
    moment = time.time() if now is None else now
    view = snapshot.current(config)
    observed = PLATFORM.backend(runner).observe(config.interface)
    agent = _agent(config)
    if view is None:
        error = not_a_member(config)
        raise NotAMember(error, _document(config, observed, None, agent, [str(error)]))
    public_key = config.existing_key(runner)
    own = view.peers.get(public_key)
    found = path_status.load(config.paths_file)
    differences = _differences(config, runner, view, public_key, found)
    peers = [
        _consistent(
            _peer(record, observed, moment)
            | _path(record, observed, moment, view, found, agent["running"])
            | _retained(record, view)
        )
        for record in sorted(view.peers.values(), key=lambda each: (each.name, each.key))
        if record.key != public_key
    ]
    reasons = _reasons(config, observed, own, agent, differences)
    shown = _document(config, observed, own, agent, reasons)
    return shown | {
        "public_key": public_key,
        "position": view.stream_id,
        "differences": differences,
        "connected": sum(peer["path"] != "none" for peer in peers),
        "relayed": sum(peer["path"] == "relayed" for peer in peers),
        "peers": peers,
    }


def _document(
    config: AgentConfig,
    observed: Observed | None,
    own: Peer | None,
    agent: Mapping[str, Any],
    reasons: Sequence[str],
) -> dict[str, Any]:
    """A status in which the node knows of no peer."""
    return {
        "zone": config.zone,
        "interface": config.interface,
        "wireguard": observed.kind if observed else "",
        "up": observed is not None and observed.up,
        "mtu": observed.mtu if observed else 0,
        "listen_port": observed.listen_port if observed else 0,
        "public_key": "",
        "name": own.name if own else "",
        "requested_name": config.name,
        "addresses": list(own.addresses) if own else [],
        "prefixes": list(own.prefixes) if own else [],
        "endpoint": own.endpoint if own else "",
        "position": "",
        "version": installed_version(),
        "agent": agent,
        "differences": [],
        "in_order": not reasons,
        "reasons": reasons,
        "connected": 0,
        "relayed": 0,
        "peers": [],
    }


def not_a_member(config: AgentConfig) -> JaywalkError:
    """Why nothing is known of the zone: the running agent's word first; without one, what to do."""
    report = _report(config)
    if report is not None and report.joined:
        return JaywalkError(
            f"somebody removed or damaged {config.snapshot_file}, by which commands know the zone",
            "the running agent, which is in the zone, writes it anew within a minute",
        )
    if not runtime_state.is_running(config.lock_file):
        return JaywalkError(
            f"this node has not joined zone {config.zone}",
            f"run 'jaywalk up' or start jaywalk-agent@{config.zone}",
        )
    remedy = report.trouble if report is not None else ""
    return JaywalkError(
        f"this node is not in zone {config.zone}", remedy or "its agent waits for the zone's answer"
    )


def _reasons(
    config: AgentConfig,
    observed: Observed | None,
    own: Peer | None,
    agent: Mapping[str, Any],
    differences: Sequence[str],
) -> list[str]:
    """Why this node is not in order; empty where the interface equals the zone and the agent is content."""
    reasons = []
    if observed is None:
        reasons.append(f"the interface {config.interface} is not there")
    elif not observed.up:
        reasons.append(f"the interface {config.interface} is down")
    if own is None:
        reasons.append(f"zone {config.zone} does not list this node's key")
    if not agent["running"]:
        reasons.append(f"no agent follows zone {config.zone}")
    elif agent["trouble"]:
        reasons.append(agent["trouble"])
    elif agent["waiting"]:
        reasons.append(f"the agent waits for zone {config.zone} to answer its request")
    if differences and observed is not None:
        # Commands, or the error that kept us from finding them.
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        command = differences[0].startswith(("wg ", "ip ", "ifconfig ", "route "))
        reasons.append(f"differs from the zone: {differences[0]}{more}" if command else differences[0])
    return list(dict.fromkeys(reasons))


def _report(config: AgentConfig) -> runtime_state.Report | None:
    """How the running agent says it is; None until it has said anything."""
    if not runtime_state.is_running(config.lock_file):
        return None
    report = runtime_state.Report.read(config.status_file)
    # Else it is the word of one that ran before.
    return report if report is not None and runtime_state.is_alive(report.pid) else None


def _agent(config: AgentConfig) -> dict[str, Any]:
    """The same for JSON; an agent that has said nothing yet is taken to wait for the zone."""
    alive, report = runtime_state.is_running(config.lock_file), _report(config)
    return {
        "running": alive,
        "pid": report.pid if report else None,
        "trouble": report.trouble if report else "",
        "waiting": alive and (report is None or report.waiting),
    }


def _differences(
    config: AgentConfig, runner: Runner, view: ZoneView, public_key: str, found: Mapping[str, PathStatus]
) -> list[str]:
    """What a plan would do now; empty while the interface equals the zone."""
    try:
        _, desired, steps = plan_now(config, runner, public_key, view, found)
        if steps or desired is None or not PLATFORM.supports_paths:
            return PLATFORM.backend(runner).commands(steps) or (["create the interface"] if steps else [])
        away = misrouted.find(runner, desired, names_of(view, desired.peers))
        return [away.peers] if away.peers else []
    except JaywalkError as error:
        return [str(error)]


def plan_now(
    config: AgentConfig, runner: Runner, public_key: str, view: ZoneView, found: Mapping[str, PathStatus]
) -> tuple[DataPlane, Interface | None, Plan]:
    """The interface as it should be, and the steps to it, with peers tried as ``found`` has them.

    Changes nothing.  Raises ``JaywalkError``, say where a network of this machine overlaps the zone's.
    """
    plane = DataPlane(PLATFORM.backend(runner), config.node(public_key), config.controller_hosts())
    plane.peer_endpoints = {key: each.peer_endpoint for key, each in found.items()}
    return plane, *plane.plan(view)


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
    record: Peer,
    observed: Observed | None,
    now: float,
    view: ZoneView,
    found: Mapping[str, PathStatus],
    followed: bool,
) -> dict[str, Any]:
    """How the peer is reached: as the running agent found, else as WireGuard shows."""
    outcome = found.get(record.key)
    if outcome is None or outcome.path == path_status.PLAIN or (outcome.path == "none" and not followed):
        return {"path": "direct" if _has_session(observed, record.key, now) else "none", "via": None}
    relay = view.peers.get(outcome.relay)
    # What an agent found that runs no more holds as long as WireGuard talks to that end of it.
    end = relay if relay is not None else record
    if not followed and not _has_session(observed, end.key, now):
        return {"path": "none", "via": None}
    return {"path": outcome.path, "via": relay.name if relay is not None else None}


def _consistent(peer: dict[str, Any]) -> dict[str, Any]:
    """A session outlives a path by up to three minutes: whom the agent finds silent is not connected."""
    silent = peer["state"] == "connected" and peer["path"] == "none"
    return peer | {"state": "silent"} if silent else peer


def _has_session(observed: Observed | None, key: str, now: float) -> bool:
    seen = observed.peers.get(key) if observed else None
    return seen is not None and seen.has_session(now)


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
    return "connected" if age < SESSION_SECONDS else "silent"
