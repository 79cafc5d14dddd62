# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: where peers see this node, and whether they can use it as a relay."""

from __future__ import annotations

from collections.abc import Iterator

from jaywalk.core import ip
from jaywalk.mesh.endpoints import may_observe, relays
from jaywalk.wireguard.interface import server_name
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..dataplane.forwarding import forwards_ipv6
from ..host.platform import PLATFORM
from ..paths import passive
from .context import BAD, GOOD, WARNING, DoctorContext, with_session


def nat(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """Behind what this node is, by what open peers see."""
    own, view = node.own, node.view
    if own is None or view is None:
        yield WARNING, "not known while this node is not in the zone"
    elif own.fixed:
        yield GOOD, f"the operator says that peers reach this node at {own.endpoint}"
    elif own.symmetric:
        yield WARNING, f"behind a symmetric NAT, seen at {_host(own)}: {_symmetric(view, own)}"
    elif own.observed:
        yield GOOD, f"behind a NAT, and open peers see this node at {own.observed}"
    elif any(may_observe(view.peers[key]) for key in with_session(node.observed_peers()) & view.peers.keys()):
        yield GOOD, f"no open peer sees this node elsewhere than at {own.endpoint or 'no address'}"
    else:
        yield WARNING, "no open peer answers, so that nobody can tell where this node is seen"


def _symmetric(view: ZoneView, own: Peer) -> str:
    if not PLATFORM.supports_paths:
        return "peers behind NATs are out of reach, since no relay carries traffic of this platform"
    others = [peer for peer in relays(view.peers.values()) if peer.key != own.key]
    if others:
        return f"a relay carries what cannot be direct ({', '.join(peer.name for peer in others)})"
    return (
        "peers behind NATs are out of reach, since the zone has no relay ('jaywalk --relay' on an open node)"
    )


def _host(own: Peer) -> str:
    return ip.host_of(own.observed)


def relay(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """Whether peers can use this node as the relay that it is to be."""
    own, config = node.own, node.config
    if not config.relay_port:
        return
    if own is None or not own.relay:
        yield BAD, "this node is to be a relay, and the zone does not know: restart its agent"
        return
    if own.observed:
        yield (
            BAD,
            (
                f"no peer uses this relay: they see it at {own.observed}, not at {own.endpoint}. Forward UDP "
                f"{config.listen_port} and {own.relay} to it; the outer address is --local-endpoint-ip"
            ),
        )
        return
    name = server_name(config.interface)
    if node.backend.listen_ports().get(name) != own.relay:
        yield (
            BAD,
            (
                f"no peer uses this relay: {name} does not listen on UDP {own.relay}. See whose port that is "
                f"('ss -lunp sport = {own.relay}'), and give another --relay-port"
            ),
        )
        return
    peers = node.backend.observe_peers(name).values()
    came = sum(bool(peer.handshake) for peer in peers)
    yield GOOD, f"a relay on UDP {own.relay}; {came} of {len(peers)} peers have come"
    if any(":" in address for address in own.addresses) and not forwards_ipv6(node.runner):
        yield WARNING, "it does not pass IPv6 on until a running agent has the machine forward it"


def paths(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """What this platform does not do for its paths."""
    if not PLATFORM.supports_paths:
        yield WARNING, passive.LIMITATION
