# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a node: the agent's copy of the zone, compared with the current interface."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Runner
from jaywalk.mesh.node_interface import LocalNode, not_accepted
from jaywalk.service.version import installed_version
from jaywalk.wireguard.interface import SESSION_SECONDS, Interface, ObservedInterface, ObservedPeer
from jaywalk.wireguard.plan import Plan
from jaywalk.zone.models import Peer
from jaywalk.zone.retention import RETAIN_SECONDS
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..dataplane import misrouted
from ..dataplane.interface import DataPlane, peer_names
from ..host import runtime_state
from ..host.platform import PLATFORM
from ..paths import path_status
from ..paths.path_status import PathStatus
from ..zone import snapshot


class NotAMember(JaywalkError):
    """This node has no copy of the zone; ``shown`` is its status in the form of :func:`gather`."""

    def __init__(self, error: JaywalkError, shown: dict[str, Any]) -> None:
        super().__init__(error.problem, error.remedy)
        self.shown = shown


def gather(config: AgentConfig, runner: Runner, now: float | None = None) -> dict[str, Any]:
    """The status of this node in its zone, for JSON; raises ``NotAMember`` if it has no copy of a zone."""
    moment = time.time() if now is None else now
    view = snapshot.current(config)
    observed = PLATFORM.backend(runner).observe(config.interface)
    agent = _agent(config)
    if view is None:
        error = not_a_member(config)
        raise NotAMember(error, _document(config, observed, None, agent, [str(error)]))
    public_key = config.existing_key(runner)
    own = view.peers.get(public_key)
    not_taken = _not_taken(view, config.node(public_key))
    statuses = path_status.load(config.paths_file)
    differences, are_commands = _differences(config, runner, view, public_key, statuses)
    peers = [
        _consistent(
            _peer(record, observed, moment)
            | _path(record, observed, moment, view, statuses, agent["running"])
            | _retained(record, view)
        )
        for record in sorted(view.peers.values(), key=lambda peer: (peer.name, peer.key))
        if record.key != public_key
    ]
    reasons = _reasons(config, observed, own, agent, differences, are_commands)
    if own is None and public_key in view.rejected:
        reasons = [view.rejected[public_key], *reasons]
    shown = _document(config, observed, own, agent, reasons)
    return shown | {
        "public_key": public_key,
        "position": view.stream_id,
        "differences": differences,
        "connected": sum(peer["path"] != "none" for peer in peers),
        "relayed": sum(peer["path"] == "relayed" for peer in peers),
        "lock": _lock(view),
        "not_taken": not_taken,
        "peers": peers,
    }


def _document(
    config: AgentConfig,
    observed: ObservedInterface | None,
    own: Peer | None,
    agent: Mapping[str, Any],
    reasons: Sequence[str],
) -> dict[str, Any]:
    """The status of a node without peers."""
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
        "lock": None,
        "not_taken": [],
        "peers": [],
    }


def _lock(view: ZoneView) -> dict[str, Any] | None:
    """The mesh lock of this node: its pinned keys, and the zone's statement in force; None without one."""
    if view.lock is None:
        return None
    statement = view.lock.statement
    return {
        "pinned": list(view.lock.pins),
        "keys": list(view.lock.signers),
        "serial": statement.serial if statement else None,
        "expires": statement.expires if statement else None,
        "problem": view.lock.problem,
    }


def _not_taken(view: ZoneView, node: LocalNode) -> list[dict[str, Any]]:
    """The records of the zone that this node does not take, and whether their former state is in force.

    Then pools and prefixes outside of the networks that it accepts; a pool has no public key.
    """
    rejected = [
        {"public_key": key, "reason": reason, "former_in_force": key in view.peers}
        for key, reason in sorted(view.rejected.items())
    ]
    outside = not_accepted(view, node).items()
    return rejected + [
        {"public_key": key if key in view.peers else "", "reason": reason, "former_in_force": False}
        for key, reason in outside
    ]


def not_a_member(config: AgentConfig) -> JaywalkError:
    """The reason why this node has no copy of the zone: the running agent's error, or else the next step."""
    report = _report(config)
    if report is not None and report.joined:
        return JaywalkError(
            f"somebody removed or damaged {config.snapshot_file}, which holds the node's copy of the zone",
            "the running agent, which is a member of the zone, writes it again within a minute",
        )
    if not runtime_state.is_running(config.lock_file):
        return JaywalkError(
            f"this node has not joined zone {config.zone}",
            f"run 'jaywalk up' or start jaywalk-agent@{config.zone}",
        )
    error = report.trouble if report is not None else ""
    return JaywalkError(
        f"this node is not in zone {config.zone}", error or "its agent waits for the zone's answer"
    )


def _reasons(
    config: AgentConfig,
    observed: ObservedInterface | None,
    own: Peer | None,
    agent: Mapping[str, Any],
    differences: Sequence[str],
    are_commands: bool,
) -> list[str]:
    """The reasons why this node is not in order: differences from the zone, and errors of its agent."""
    reasons = []
    if observed is None:
        reasons.append(f"the interface {config.interface} does not exist")
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
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        reasons.append(f"differs from the zone: {differences[0]}{more}" if are_commands else differences[0])
    return list(dict.fromkeys(reasons))


def _report(config: AgentConfig) -> runtime_state.Report | None:
    """The report of the running agent; None before its first one."""
    if not runtime_state.is_running(config.lock_file):
        return None
    report = runtime_state.Report.read(config.status_file)
    # Otherwise an earlier agent wrote the report.
    return report if report is not None and runtime_state.is_alive(report.pid) else None


def _agent(config: AgentConfig) -> dict[str, Any]:
    """The same for JSON; an agent without a report counts as waiting for the zone."""
    alive, report = runtime_state.is_running(config.lock_file), _report(config)
    return {
        "running": alive,
        "pid": report.pid if report else None,
        "trouble": report.trouble if report else "",
        "waiting": alive and (report is None or report.waiting),
    }


def _differences(
    config: AgentConfig, runner: Runner, view: ZoneView, public_key: str, statuses: Mapping[str, PathStatus]
) -> tuple[Sequence[str], bool]:
    """The commands of a plan of this moment, none while the interface equals the zone, and True.

    If packets to peers leave by another interface, or an error occurs: a sentence, and False.
    """
    try:
        _, desired, steps = plan_now(config, runner, public_key, view, statuses)
        if steps or desired is None or not PLATFORM.supports_paths:
            return PLATFORM.backend(runner).commands(steps), True
        others = misrouted.find(runner, desired, peer_names(view, desired.peers))
        return [others.peers] if others.peers else [], False
    except JaywalkError as error:
        return [str(error)], False


def plan_now(
    config: AgentConfig, runner: Runner, public_key: str, view: ZoneView, statuses: Mapping[str, PathStatus]
) -> tuple[DataPlane, Interface | None, Plan]:
    """The desired interface with the peers' endpoints of ``statuses``, and the steps that lead to it.

    Changes nothing.  Raises ``JaywalkError``, for example if a network of this machine overlaps the zone's.
    """
    plane = DataPlane(PLATFORM.backend(runner), config.node(public_key), config.controller_hosts())
    peer_endpoints = {key: status.peer_endpoint for key, status in statuses.items()}
    return plane, *plane.plan(view, peer_endpoints=peer_endpoints)


def _peer(record: Peer, observed: ObservedInterface | None, now: float) -> dict[str, Any]:
    peer = observed.peers.get(record.key) if observed else None
    age = round(now - peer.handshake) if peer and peer.handshake else None
    return {
        "name": record.name,
        "public_key": record.key,
        "addresses": list(record.addresses),
        "prefixes": list(record.prefixes),
        "endpoint": peer.endpoint if peer and peer.endpoint else record.endpoint,
        "handshake_age": age,
        "received": peer.received if peer else 0,
        "sent": peer.sent if peer else 0,
        "state": _state(peer, age),
    }


def _path(
    record: Peer,
    observed: ObservedInterface | None,
    now: float,
    view: ZoneView,
    statuses: Mapping[str, PathStatus],
    is_running: bool,
) -> dict[str, Any]:
    """The path to the peer: from the agent's path status file, or else from WireGuard's session."""
    status = statuses.get(record.key)
    if status is None or status.path == path_status.PLAIN or (status.path == "none" and not is_running):
        return {"path": "direct" if _has_session(observed, record.key, now) else "none", "via": None}
    relay = view.peers.get(status.relay)
    # The status of an agent that has ended is valid while WireGuard has a session with the other end.
    end = relay if relay is not None else record
    if not is_running and not _has_session(observed, end.key, now):
        return {"path": "none", "via": None}
    return {"path": status.path, "via": relay.name if relay is not None else None}


def _consistent(peer: dict[str, Any]) -> dict[str, Any]:
    """Corrects the state of a silent peer, since a session outlives a path by up to three minutes."""
    silent = peer["state"] == "connected" and peer["path"] == "none"
    return peer | {"state": "silent"} if silent else peer


def _has_session(observed: ObservedInterface | None, key: str, now: float) -> bool:
    peer = observed.peers.get(key) if observed else None
    return peer is not None and peer.has_session(now)


def _retained(record: Peer, view: ZoneView) -> dict[str, Any]:
    """For a peer that the controller lost: the epoch that last listed it, and the time of its removal."""
    retained = view.retained.get(record.key)
    until = None if retained is None else round(retained.since + RETAIN_SECONDS)
    return {"retained_from": retained.epoch if retained else None, "retained_until": until}


def _state(peer: ObservedPeer | None, age: int | None) -> str:
    if peer is None:
        return "missing"
    if age is None:
        return "never"
    return "connected" if age < SESSION_SECONDS else "silent"
