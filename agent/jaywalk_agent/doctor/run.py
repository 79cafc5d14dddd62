# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: checks everything that a node's mesh depends on, with one sentence per finding.

It changes nothing on the node and nothing in the zone.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from jaywalk.core.errors import CommandHung, JaywalkError
from jaywalk.core.ownership import others_may_read
from jaywalk.core.runner import Runner
from jaywalk.core.text import printable
from jaywalk.mesh import node_interface
from jaywalk.mesh.local_addresses import own_addresses
from jaywalk.wireguard import describe
from jaywalk.wireguard.interface import Interface

from ..config import AgentConfig
from ..dataplane import misrouted
from ..dataplane.forwarding import Forwarding
from ..dataplane.interface import DataPlane, peer_names
from ..host import runtime_state, stun
from ..host.platform import PLATFORM
from ..paths import path_status
from ..status import report as status
from ..zone import snapshot
from ..zone.membership import Membership
from ..zone.requests import NodeRequests
from . import lock, mtu, nat, peers
from .context import BAD, GOOD, WARNING, Check, DoctorContext, Finding

# The time that a supervisor has to answer.
ANSWER_SECONDS = 10.0
# A running agent repairs a difference within this time.
SETTLE_SECONDS = 2.5


def examine(config: AgentConfig, runner: Runner, servers: Sequence[str] = ()) -> list[Finding]:
    """All findings.

    A check that fails is a finding as well, and the next check follows, except after a program that hangs.
    ``servers`` are STUN servers to query as well.
    """
    view = snapshot.current(config)
    key = config.key_on_disk(runner)
    node = DoctorContext(config, runner, key, view, view.peers.get(key) if view is not None else None)
    findings = []
    for about, check in CHECKS.items():
        try:
            # One by one, so that the findings before an error stay.
            for grade, sentence in check(node):
                findings.append(Finding(grade, about, sentence))
        except CommandHung as error:
            # Each further check would wait for the same program.
            findings.append(Finding(BAD, about, str(error)))
            break
        except (JaywalkError, OSError) as error:
            findings.append(Finding(BAD, about, str(error)))
    if servers:
        good, sentence = stun.examine(servers, own_addresses(""))
        findings.append(Finding(GOOD if good else WARNING, "stun", sentence))
    return findings


def _key(node: DoctorContext) -> Iterator[tuple[str, str]]:
    file = node.config.private_key_file
    if not file.exists():
        yield BAD, f"there is no private key in {file}: create one with 'jaywalk keygen'"
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if others_may_read(str(file)):
        yield BAD, f"other users may read {file} (mode {mode:04o}): run 'chmod 600 {file}', and use a new key"
    else:
        yield GOOD, f"nobody else may read {file}"


def _agent(node: DoctorContext) -> Iterator[tuple[str, str]]:
    config = node.config
    if not runtime_state.is_running(config.lock_file):
        remedy = f"start jaywalk-agent@{config.zone}, or find in its journal why it does not run"
        yield BAD, f"no agent runs, so nothing follows zone {config.zone} or repairs paths: {remedy}"
        return
    report = runtime_state.Report.read(config.status_file)
    if report is None:
        yield WARNING, "the agent has not reported its status yet"
    elif report.trouble:
        yield BAD, f"the agent reports an error: {report.trouble}"
    elif report.waiting:
        yield BAD, f"the agent waits for zone {config.zone} to answer its request"
    else:
        yield GOOD, f"the agent of zone {config.zone} runs"


def _zone(node: DoctorContext) -> Iterator[tuple[str, str]]:
    if node.view is None:
        yield BAD, str(status.not_a_member(node.config))
    elif node.own is None:
        yield BAD, f"zone {node.config.zone} does not list this node's key"
    else:
        yield (
            GOOD,
            f"member of zone {node.config.zone} as {node.own.name}, {', '.join(node.own.addresses)}",
        )
    if node.config.volatile_snapshot_file.exists():
        yield (
            WARNING,
            f"{node.config.snapshot_file} cannot be written: after a reboot this node has no copy of its "
            "zone until the controller answers. "
            "Repair the disk; if the folder was removed, restart the agent",
        )


def _controller(node: DoctorContext) -> Iterator[tuple[str, str]]:
    config = node.config
    zone = config.login(config.prover() if node.key else None).open("jaywalk-doctor")
    try:
        head = zone.head()
        yield (
            GOOD,
            f"{config.controller_place()} answers, zone {config.zone} is at revision {head.stream_id}",
        )
        if not node.key:
            yield WARNING, "the check of the supervisor needs the key of this node"
            return
        # Any answer is enough; this request changes nothing in the zone.
        zone.ask(NodeRequests(config, Membership(config.zone, node.key)).check(), ANSWER_SECONDS)
        yield GOOD, "a supervisor answers"
    finally:
        zone.client.close()


def _interface(node: DoctorContext) -> Iterator[tuple[str, str]]:
    config = node.config
    observed, others = node.backend.observe(config.interface), node.backend.listen_ports()
    holder = next((name for name, port in others.items() if port == config.listen_port), config.interface)
    if holder != config.interface:
        yield (
            BAD,
            f"UDP port {config.listen_port} belongs to {holder}: give one of them another --listen-port",
        )
    if observed is None:
        yield BAD, f"the interface {config.interface} does not exist: start the agent, or run 'jaywalk up'"
        return
    if not observed.up:
        yield BAD, f"the interface {observed.name} is down: run 'ip link set dev {observed.name} up'"
    if node.key and observed.public_key not in ("", node.key):
        yield BAD, f"the interface {observed.name} has another key than {config.private_key_file}"
        return
    if observed.listen_port == config.listen_port:
        yield GOOD, f"{config.interface} ({observed.kind} WireGuard) listens on UDP {observed.listen_port}"
    else:
        yield BAD, f"{config.interface} listens on UDP {observed.listen_port}, not {config.listen_port}"


def _differences(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """The steps of a plan, after a running agent had time to take them itself."""
    if node.view is None or node.own is None or node.backend.observe(node.config.interface) is None:
        return
    plane, _, commands = _plan(node)
    if commands and runtime_state.is_running(node.config.lock_file):
        time.sleep(SETTLE_SECONDS)
        plane, _, commands = _plan(node)
    name = node.config.interface
    if commands:
        yield BAD, f"{name} differs from the zone: {describe.listed(commands, '; ')}"
    else:
        yield GOOD, f"{name} equals the zone, and no network of this machine overlaps the zone's"
    if plane.without_ipv6:
        yield WARNING, plane.without_ipv6
    yield from ((WARNING, sentence) for sentence in node_interface.refused_prefixes(node.view, plane.node))


def _plan(node: DoctorContext) -> tuple[DataPlane, Interface | None, Sequence[str]]:
    """The desired interface and the commands that lead to it; raises as :func:`.status.plan_now`."""
    assert node.view is not None
    # The current zone: a running agent may have applied events since the doctor began.
    view = snapshot.current(node.config) or node.view
    found = path_status.load(node.config.paths_file)
    plane, desired, steps = status.plan_now(node.config, node.runner, node.key, view, found)
    return plane, desired, node.backend.commands(steps)


def _routes(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """Whether the machine's routes and rules lead packets for peers into the tunnel."""
    if node.view is None or node.own is None or not PLATFORM.supports_paths:
        return
    if node.backend.observe(node.config.interface) is None:
        return
    _, desired, commands = _plan(node)
    if commands or desired is None:
        return  # another finding reports this, and it explains the rest
    others = misrouted.find(node.runner, desired, peer_names(node.view, desired.peers))
    if others.peers:
        yield BAD, others.peers
    else:
        yield GOOD, f"this machine routes packets for peers into {desired.name}"
    if others.prefixes:
        yield WARNING, others.prefixes


def _forwarding(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """Whether this node forwards packets from peers to the networks behind it, if it is configured to."""
    config = node.config
    if node.own is None or not config.forward or not node.own.prefixes:
        return
    lines = Forwarding(node.runner, config.interface, enabled=True).missing(node.own.prefixes)
    if lines:
        missing = describe.listed(lines, most=1)
        yield BAD, f"peers cannot reach {', '.join(node.own.prefixes)}, since this is missing: {missing}"
    else:
        yield GOOD, f"forwards between peers and {', '.join(node.own.prefixes)}"


def _versions(node: DoctorContext) -> Iterator[tuple[str, str]]:
    found = own_addresses(next(iter(node.config.controller_hosts()), ""))
    if found:
        yield GOOD, f"the source addresses of this machine are {', '.join(found)}"
    else:
        yield BAD, "this machine has only loopback and link-local addresses"


def _mtu(node: DoctorContext) -> Iterator[tuple[str, str]]:
    observed = node.backend.observe(node.config.interface)
    if observed is None:
        return
    bad = mtu.too_small_link(observed, node.backend)
    if bad:
        yield WARNING, bad
    if node.view is None or node.own is None:
        return
    for sentence in mtu.black_holes(node.config, node.view, node.own, observed):
        bad = sentence
        yield BAD, sentence
    if not bad:
        yield GOOD, f"packets of {observed.mtu} bytes fit the links, and reach all peers that answer"


CHECKS: dict[str, Check] = {
    "key": _key,
    "agent": _agent,
    "zone": _zone,
    "lock": lock.lock,
    "controller": _controller,
    "interface": _interface,
    "differences": _differences,
    "routes": _routes,
    "forwarding": _forwarding,
    "addresses": _versions,
    "peers": peers.peers,
    "nat": nat.nat,
    "paths": nat.paths,
    "relay": nat.relay,
    "mtu": _mtu,
}


def healthy(findings: list[Finding]) -> bool:
    """Whether no finding is bad; a warning is not."""
    return all(finding.grade != BAD for finding in findings)


def as_json(findings: list[Finding]) -> str:
    """``healthy``, and the findings with their ``grade``, ``about`` and ``sentence``."""
    listed = [asdict(finding) for finding in findings]
    document: dict[str, Any] = {"healthy": healthy(findings), "findings": listed}
    return json.dumps(document, indent=2)


def as_text(findings: list[Finding]) -> str:
    """One line per finding."""
    return "\n".join(
        printable(f"{finding.grade:8}{finding.about:13}{finding.sentence}") for finding in findings
    )
