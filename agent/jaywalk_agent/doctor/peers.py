# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: probes all peers now, since a handshake may be three minutes old."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaywalk.wireguard import describe

from ..paths import ping
from ..paths.ping import PingResult
from .context import BAD, GOOD, WARNING, DoctorContext

# Silent peers that the sentence names.
MAX_NAMED = 10
PROBES = 3
TIMEOUT_SECONDS = 1.5


def peers(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """The peers that answer now, those that do not, and those of an epoch that the controller lost."""
    if node.own is None or node.view is None or len(node.view.peers) < 2:
        return
    results = ping.probe_peers(node.config, node.view, node.own, count=PROBES, timeout=TIMEOUT_SECONDS)
    silent = [result for result in results if not result.answers]
    answering = len(results) - len(silent)
    relayed = sum(result.path == "relayed" for result in results)
    by_relay = f", {relayed} of them by a relay" if relayed else ""
    if answering:
        yield GOOD, f"{answering} of {len(results)} peers answer now{by_relay}"
    if silent and not answering:
        yield BAD, _all_silent(node, results)
    elif silent:
        yield BAD, f"{len(silent)} of {len(results)} peers do not answer now: {_named(silent)}"
    retained = sorted(node.view.peers[key].name for key in node.view.retained if key in node.view.peers)
    if retained:
        names = describe.listed(retained, most=MAX_NAMED)
        yield WARNING, f"the controller lost these peers, which stay until they rejoin: {names}"


def _all_silent(node: DoctorContext, results: Sequence[PingResult]) -> str:
    observed = node.observed_peers().values()
    sent, received = sum(peer.sent for peer in observed), sum(peer.received for peer in observed)
    return (
        f"none of {len(results)} peers answers now ({_named(results)}): all are down, or a firewall drops "
        f"UDP from port {node.config.listen_port} to them ({sent} bytes were sent, {received} received)"
    )


def _named(silent: Sequence[PingResult]) -> str:
    names = [f"{peer.name} ({peer.error})" if peer.error else peer.name for peer in silent]
    return describe.listed(names, most=MAX_NAMED)
