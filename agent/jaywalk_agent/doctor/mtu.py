# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether packets of the interface's MTU reach the peers: by the links' MTUs, and by probes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaywalk.wireguard import mtu
from jaywalk.wireguard.backend import Backend
from jaywalk.wireguard.interface import ObservedInterface
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..paths import ping
from ..paths.ping import PingResult

# Peers that a sentence names, after a search for the largest size that reaches each.
MAX_NAMED = 10
PROBES = 2
TIMEOUT_SECONDS = 1.5


def too_small_link(observed: ObservedInterface, backend: Backend) -> str:
    """A sentence about a link that carries less than the interface sends, or "" for none."""
    live = {key: peer for key, peer in observed.peers.items() if peer.handshake}
    paths = backend.path_mtus(mtu.endpoint_hosts(live))
    fits = mtu.fitting(paths, observed.name, observed.addresses)
    if fits is None or observed.mtu <= fits:
        return _fragments(observed, paths, fits)
    return (
        f"{observed.name} sends packets of up to {observed.mtu} bytes, but the links to its peers carry "
        f"{fits}: {_remedy(fits)}, or set none, so that the agent adapts to the links"
    )


def _fragments(observed: ObservedInterface, paths: dict[str, mtu.PathMtu], fits: int | None) -> str:
    without_ipv6 = mtu.fitting(paths, observed.name, ())
    if fits is None or without_ipv6 is None or without_ipv6 >= min(fits, observed.mtu):
        return ""
    return (
        f"a link to the peers carries packets of {without_ipv6} bytes, but IPv6 inside the tunnel needs "
        f"{mtu.LEAST_IPV6}: larger ones are sent in fragments, which some firewalls drop"
    )


def black_holes(config: AgentConfig, view: ZoneView, own: Peer, observed: ObservedInterface) -> Iterator[str]:
    """A sentence about peers that reply to small packets only, and not to those of the MTU, if there are any.

    Raises ``JaywalkError`` if this node cannot probe its peers.
    """
    large = _probe(config, view, own, observed.mtu, None)
    lost = [result.key for result in large if not result.answers]
    small = [result for result in _probe(config, view, own, 0, lost) if result.answers] if lost else []
    if not small:
        return
    named = [result.key for result in small[:MAX_NAMED]]
    largest = ping.largest_passing(config, view, own, named, observed.mtu)
    passing = {key: size for key in named if (size := largest.get(key, 0))}
    if passing:
        yield _sentence(observed, small, passing, own)


def _probe(
    config: AgentConfig, view: ZoneView, own: Peer, size: int, keys: Sequence[str] | None
) -> list[PingResult]:
    return ping.probe_peers(config, view, own, keys, size=size, count=PROBES, timeout=TIMEOUT_SECONDS)


def _sentence(
    observed: ObservedInterface, small: list[PingResult], passing: dict[str, int], own: Peer
) -> str:
    named = [f"{result.name} receives {passing[result.key]}" for result in small if result.key in passing]
    more = f" and {len(small) - len(named)} more peers receive less" if len(small) > len(named) else ""
    smallest = min(passing.values())
    remedy = _remedy(smallest)
    if smallest < mtu.least(own.addresses):
        remedy = f"repair the path, since IPv6 inside the tunnel needs {mtu.LEAST_IPV6} bytes"
    return (
        f"packets of {observed.mtu} bytes are lost on the path without an error: "
        f"{', '.join(named)}{more}; {remedy}"
    )


def _remedy(size: int) -> str:
    return f"set --mtu {size} (JAYWALK_MTU, jaywalk_mtu)"
