# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: the observed endpoint of this node, and whether peers can use it as a relay."""

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
from .context import BAD, GOOD, WARNING, DoctorContext, keys_with_session


def nat(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """The kind of this node's NAT, by the endpoints that open peers observe."""
    own, view = node.own, node.view
    if own is None or view is None:
        yield WARNING, "unknown while this node is not in the zone"
    elif own.fixed:
        yield GOOD, f"the operator declared that peers reach this node at {own.endpoint}"
    elif own.symmetric:
        yield WARNING, f"behind a symmetric NAT at {_host(own)}: {_symmetric(view, own)}"
    elif own.observed:
        yield GOOD, f"behind a NAT, and open peers observe this node at {own.observed}"
    elif any(
        may_observe(view.peers[key]) for key in keys_with_session(node.observed_peers()) & view.peers.keys()
    ):
        yield GOOD, f"open peers observe no endpoint of this node but {own.endpoint or 'none'}"
    else:
        yield WARNING, "no open peer answers, so the observed endpoint of this node is unknown"


def _symmetric(view: ZoneView, own: Peer) -> str:
    if not PLATFORM.supports_paths:
        return "peers behind NATs cannot be reached, since no relay carries traffic of this platform"
    others = [peer for peer in relays(view.peers.values()) if peer.key != own.key]
    if others:
        return f"a relay carries pairs without a direct path ({', '.join(peer.name for peer in others)})"
    return (
        "peers behind NATs cannot be reached, since the zone has no relay ('jaywalk --relay' on an open node)"
    )


def _host(own: Peer) -> str:
    return ip.host_of(own.observed)


def relay(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """Whether peers can use this node as a relay, if it is configured as one."""
    own, config = node.own, node.config
    if not config.relay_port:
        return
    if own is None or not own.relay:
        yield (
            BAD,
            "this node is configured as a relay, but the zone lists it as none: restart its agent",
        )
        return
    if own.observed:
        yield (
            BAD,
            (
                f"no peer uses this relay, since peers observe it at {own.observed}, not at {own.endpoint}. "
                f"Forward UDP {config.listen_port} and {own.relay} to it, and set the outer address with "
                "--local-endpoint-ip"
            ),
        )
        return
    name = server_name(config.interface)
    if node.backend.listen_ports().get(name) != own.relay:
        yield (
            BAD,
            (
                f"no peer uses this relay, since {name} does not listen on UDP {own.relay}. Find the program "
                f"with that port ('ss -lunp sport = {own.relay}'), or set another --relay-port"
            ),
        )
        return
    peers = node.backend.observe_peers(name).values()
    connected = sum(bool(peer.handshake) for peer in peers)
    yield GOOD, f"a relay on UDP {own.relay}, to which {connected} of {len(peers)} peers have connected"
    if any(":" in address for address in own.addresses) and not forwards_ipv6(node.runner):
        yield WARNING, "it does not forward IPv6 until a running agent enables that on this machine"


def paths(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """The limitation of a platform without path repair."""
    if not PLATFORM.supports_paths:
        yield WARNING, passive.LIMITATION
