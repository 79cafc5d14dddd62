# SPDX-License-Identifier: GPL-3.0-or-later
"""Do packets as large as the interface's MTU reach the peers?  By what the links say, and by asking live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaywalk.wireguard import mtu
from jaywalk.wireguard.backend import Backend
from jaywalk.wireguard.interface import Observed
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..paths import ping
from ..paths.ping import PingResult

NAMED = 10
"""Peers that a sentence names, and for which the largest size that passes is looked for."""
QUESTIONS = 2
SECONDS = 1.5


def too_small_link(observed: Observed, backend: Backend) -> str:
    """A sentence about a link that takes less than the interface sends; empty where there is none."""
    live = {key: peer for key, peer in observed.peers.items() if peer.handshake}
    paths = backend.path_mtus(mtu.endpoint_hosts(live))
    fits = mtu.fitting(paths, observed.name, observed.addresses)
    if fits is None or observed.mtu <= fits:
        return _fragments(observed, paths, fits)
    return (
        f"{observed.name} sends packets of up to {observed.mtu} bytes, and the links to its peers carry "
        f"{fits}: {_remedy(fits)}, or leave it to the agent, which follows the links"
    )


def _fragments(observed: Observed, paths: dict[str, mtu.PathMtu], fits: int | None) -> str:
    without_ipv6 = mtu.fitting(paths, observed.name, ())
    if fits is None or without_ipv6 is None or without_ipv6 >= min(fits, observed.mtu):
        return ""
    return (
        f"a link to the peers carries packets of {without_ipv6} bytes, and IPv6 inside the tunnel needs "
        f"{mtu.LEAST_IPV6}: larger ones go in fragments, which some firewalls drop"
    )


def black_holes(config: AgentConfig, view: ZoneView, own: Peer, observed: Observed) -> Iterator[str]:
    """A sentence about peers that answer small packets and none of the interface's size, if there are any.

    Raises ``JaywalkError`` where this node cannot ask its peers.
    """
    large = _ask(config, view, own, observed.mtu, None)
    lost = [each.key for each in large if not each.answers]
    small = [each for each in _ask(config, view, own, 0, lost) if each.answers] if lost else []
    if not small:
        return
    named = small[:NAMED]
    largest = ping.largest_passing(config, view, own, [each.key for each in named], observed.mtu)
    passing = {each.key: size for each in named if (size := largest.get(each.key, 0))}
    if passing:
        yield _sentence(observed, small, passing, own)


def _ask(
    config: AgentConfig, view: ZoneView, own: Peer, size: int, keys: Sequence[str] | None
) -> list[PingResult]:
    return ping.probe_peers(config, view, own, keys, size=size, count=QUESTIONS, timeout=SECONDS)


def _sentence(observed: Observed, small: list[PingResult], passing: dict[str, int], own: Peer) -> str:
    each = [f"{result.name} takes {passing[result.key]}" for result in small if result.key in passing]
    more = f" and {len(small) - len(each)} more peers take less" if len(small) > len(each) else ""
    smallest = min(passing.values())
    remedy = _remedy(smallest)
    if smallest < mtu.least(own.addresses):
        remedy = f"mend the path, since IPv6 inside the tunnel needs {mtu.LEAST_IPV6} bytes"
    return (
        f"packets of {observed.mtu} bytes are lost on the way and nobody says so: "
        f"{', '.join(each)}{more}; {remedy}"
    )


def _remedy(size: int) -> str:
    return f"set --mtu {size} (JAYWALK_MTU, jaywalk_mtu)"
