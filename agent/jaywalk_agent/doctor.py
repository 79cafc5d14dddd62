# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: looks at all that a node's mesh rests on, and says what is wrong, a sentence each."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaywalk import driver, mesh, plan, values
from jaywalk.candidates import may_observe, relays
from jaywalk.controller import ZoneClient, connect
from jaywalk.errors import JaywalkError
from jaywalk.interface import ObservedPeer, server_name
from jaywalk.models import Peer
from jaywalk.place import own_addresses
from jaywalk.requests import Request
from jaywalk.runner import Runner
from jaywalk.zonelog import ZoneView

from . import mtu_check, onlooker, running, snapshot, stun
from .agent import node_of
from .dataplane import DataPlane
from .forward import forwards_ipv6
from .instance import own_instance
from .places import PLACES
from .settings import Settings

GOOD, WARNING, BAD = "good", "warning", "bad"
ANSWER_SECONDS = 10.0
"""How long a supervisor may take to answer."""


@dataclass(frozen=True)
class Finding:
    """What one look came to: ``good``, ``warning`` or ``bad``, of what, and a sentence about it."""

    grade: str
    about: str
    sentence: str


@dataclass(frozen=True)
class Patient:
    """A node, as far as it is known before the first look."""

    settings: Settings
    runner: Runner
    view: ZoneView | None
    own: Peer | None

    @property
    def driver(self) -> driver.Driver:
        """The hands of this machine's platform."""
        return driver.of_this_machine(self.runner)


def examine(settings: Settings, runner: Runner, servers: Sequence[str] = ()) -> list[Finding]:
    """All findings; what cannot be looked at is a finding too, and keeps no other look back.

    ``servers`` are STUN servers to ask as well.
    """
    view = snapshot.load(settings.snapshot_file, settings.zone)
    key = settings.existing_key(runner) if settings.private_key_file.exists() else ""
    patient = Patient(settings, runner, view, view.peers.get(key) if view is not None else None)
    findings = []
    for about, look in LOOKS.items():
        try:
            # One by one: what was found before a look failed stays.
            for grade, sentence in look(patient):
                findings.append(Finding(grade, about, sentence))
        except (JaywalkError, OSError) as error:
            findings.append(Finding(BAD, about, str(error)))
    if servers:
        well, sentence = stun.examine(servers, own_addresses(""))
        findings.append(Finding(GOOD if well else WARNING, "stun", sentence))
    return findings


def _key(patient: Patient) -> Iterator[tuple[str, str]]:
    file = patient.settings.private_key_file
    if not file.exists():
        yield BAD, f"there is no private key in {file}: 'jaywalk keygen' makes one"
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield BAD, f"others may read {file} (mode {mode:04o}): run 'chmod 600 {file}', and use a new key"
    else:
        yield GOOD, f"{file} is for its owner alone"


def _agent(patient: Patient) -> Iterator[tuple[str, str]]:
    settings = patient.settings
    if not running.is_running(settings.lock_file):
        yield WARNING, f"no agent runs: nothing follows zone {settings.zone}, and no path is mended"
        return
    report = running.Report.read(settings.status_file)
    if report is not None and report.trouble:
        yield BAD, f"the agent is in trouble: {report.trouble}"
    else:
        yield GOOD, f"the agent of zone {settings.zone} runs"


def _controller(patient: Patient) -> Iterator[tuple[str, str]]:
    settings = patient.settings
    address = settings.controller_address()
    client = connect(address, name="jaywalk-doctor")
    try:
        zone = ZoneClient(client, address, settings.zone)
        head = zone.head()
        yield GOOD, f"{address} answers, zone {settings.zone} stands at {head.position}"
        if patient.own is None:
            yield WARNING, "this node has not joined: whether a supervisor answers is not known"
            return
        # What the zone knows already, so that nothing changes.
        here = Request.checked(
            "endpoint",
            settings.zone,
            patient.own.key,
            instance=own_instance(settings.state_dir),
            **settings.whereabouts(),
        )
        zone.ask(here, ANSWER_SECONDS)
        yield GOOD, "a supervisor answers"
    finally:
        client.close()


def _interface(patient: Patient) -> Iterator[tuple[str, str]]:
    settings, runner = patient.settings, patient.runner
    observed, others = patient.driver.observe(settings.interface), patient.driver.ports()
    holder = next((name for name, port in others.items() if port == settings.listen_port), settings.interface)
    if holder != settings.interface:
        yield BAD, f"UDP port {settings.listen_port} is {holder}'s: give one of them another --listen-port"
    if observed is None:
        yield BAD, f"the interface {settings.interface} is not there: start the agent, or run 'jaywalk up'"
        return
    if observed.listen_port == settings.listen_port:
        yield GOOD, f"{settings.interface} ({observed.kind} WireGuard) listens on UDP {observed.listen_port}"
    else:
        yield BAD, f"{settings.interface} listens on UDP {observed.listen_port}, not {settings.listen_port}"
    if patient.view is not None and patient.own is not None:
        node = node_of(settings, patient.own.key)
        # Raises where a network of this machine overlaps the zone's.
        plane = DataPlane(runner, node, settings.controller_hosts())
        plane.plan(patient.view)
        yield GOOD, "no network of this machine overlaps the zone's"
        if plane.without_ipv6:
            yield WARNING, plane.without_ipv6
        yield from ((WARNING, sentence) for sentence in mesh.refused_prefixes(patient.view, plane.node))


def _peers(patient: Patient) -> Iterator[tuple[str, str]]:
    if patient.own is None or patient.view is None or len(patient.view.peers) < 2:
        return
    seen = _seen(patient)
    others, answering = len(patient.view.peers) - 1, _answering(seen)
    if answering:
        yield GOOD, f"{len(answering)} of {others} peers answer"
        return
    sent, came = sum(each.sent for each in seen.values()), sum(each.received for each in seen.values())
    yield (
        BAD,
        (
            f"none of {others} peers answers ({sent} bytes sent, {came} received): all are away, or a "
            f"firewall lets no UDP from port {patient.settings.listen_port} out to them"
        ),
    )


def _seen(patient: Patient) -> dict[str, ObservedPeer]:
    return patient.driver.dump(patient.settings.interface)


def _answering(seen: Mapping[str, ObservedPeer]) -> set[str]:
    """The keys of the peers with a session."""
    return {key for key, each in seen.items() if time.time() - each.handshake < plan.SETTLED_SECONDS}


def _nat(patient: Patient) -> Iterator[tuple[str, str]]:
    own, view = patient.own, patient.view
    if own is None or view is None:
        yield WARNING, "not known before this node has joined"
    elif own.fixed:
        yield GOOD, f"the operator says that peers reach this node at {own.endpoint}"
    elif own.symmetric:
        yield WARNING, f"behind a symmetric NAT, seen at {_host(own)}: {_symmetric(view, own)}"
    elif own.observed:
        yield GOOD, f"behind a NAT, and open peers see this node at {own.observed}"
    elif any(may_observe(view.peers[key]) for key in _answering(_seen(patient)) & view.peers.keys()):
        yield GOOD, f"no open peer sees this node elsewhere than at {own.endpoint or 'no address'}"
    else:
        yield WARNING, "no open peer answers, so that nobody can tell where this node is seen"


def _symmetric(view: ZoneView, own: Peer) -> str:
    if not PLACES.mends_paths:
        return "peers behind NATs are out of reach, since no relay carries anything for this platform"
    others = [peer for peer in relays(view.peers.values()) if peer.key != own.key]
    if others:
        return f"a relay carries what cannot be direct ({', '.join(peer.name for peer in others)})"
    return (
        "peers behind NATs are out of reach, since the zone has no relay ('jaywalk --relay' on an open node)"
    )


def _host(own: Peer) -> str:
    return values.host_of(own.observed)


def _relay(patient: Patient) -> Iterator[tuple[str, str]]:
    own, settings = patient.own, patient.settings
    if not settings.relay_port:
        return
    if own is None or not own.relay:
        yield BAD, "this node is to be a relay, and the zone does not know: restart its agent"
        return
    if own.observed:
        yield (
            BAD,
            (
                f"no peer uses this relay: they see it at {own.observed}, not at {own.endpoint}. Forward UDP "
                f"{settings.listen_port} and {own.relay} to it; the outer address is --local-endpoint-ip"
            ),
        )
        return
    name = server_name(settings.interface)
    if patient.driver.ports().get(name) != own.relay:
        yield (
            BAD,
            (
                f"no peer uses this relay: {name} does not listen on UDP {own.relay}. See whose port that is "
                f"('ss -lunp sport = {own.relay}'), and give another --relay-port"
            ),
        )
        return
    peers = patient.driver.dump(name).values()
    came = sum(bool(peer.handshake) for peer in peers)
    yield GOOD, f"a relay on UDP {own.relay}; {came} of {len(peers)} peers have come"
    if any(":" in address for address in own.addresses) and not forwards_ipv6(patient.runner):
        yield WARNING, "it does not pass IPv6 on until a running agent has the machine forward it"


def _paths(patient: Patient) -> Iterator[tuple[str, str]]:
    if not PLACES.mends_paths:
        yield WARNING, onlooker.SENTENCE


def _versions(patient: Patient) -> Iterator[tuple[str, str]]:
    found = own_addresses(next(iter(patient.settings.controller_hosts()), ""))
    if found:
        yield GOOD, f"this machine speaks to others from {', '.join(found)}"
    else:
        yield BAD, "this machine has no address but loopback and link-local ones"


def _mtu(patient: Patient) -> Iterator[tuple[str, str]]:
    observed = patient.driver.observe(patient.settings.interface)
    if observed is None:
        return
    bad = mtu_check.too_small_link(observed, patient.driver)
    if bad:
        yield WARNING, bad
    if patient.view is None or patient.own is None:
        return
    for sentence in mtu_check.black_holes(patient.settings, patient.view, patient.own, observed):
        bad = sentence
        yield BAD, sentence
    if not bad:
        yield GOOD, f"packets of {observed.mtu} bytes fit the links to the peers, and pass to all that answer"


LOOKS: dict[str, Callable[[Patient], Iterator[tuple[str, str]]]] = {
    "key": _key,
    "agent": _agent,
    "controller": _controller,
    "interface": _interface,
    "addresses": _versions,
    "peers": _peers,
    "nat": _nat,
    "paths": _paths,
    "relay": _relay,
    "mtu": _mtu,
}


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing is bad; a warning is none of it."""
    return all(finding.grade != BAD for finding in findings)


def as_json(findings: list[Finding]) -> str:
    """``healthy``, and the findings with their ``grade``, ``about`` and ``sentence``."""
    document: dict[str, Any] = {"healthy": healthy(findings), "findings": [asdict(each) for each in findings]}
    return json.dumps(document, indent=2)


def as_text(findings: list[Finding]) -> str:
    """A line a finding."""
    return "\n".join(f"{each.grade:8}{each.about:12}{each.sentence}" for each in findings)
