# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: asks all peers now, since a handshake of three minutes ago says nothing of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaywalk.wireguard import describe

from ..paths import ping
from ..paths.ping import PingResult
from .context import BAD, GOOD, WARNING, DoctorContext

NAMED = 10
"""Silent peers that the sentence names."""
QUESTIONS = 3
SECONDS = 1.5


def peers(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """Who answers now, by name who does not, and who is there by an epoch that the controller lost."""
    if node.own is None or node.view is None or len(node.view.peers) < 2:
        return
    results = ping.probe_peers(node.config, node.view, node.own, count=QUESTIONS, timeout=SECONDS)
    silent = [each for each in results if not each.answers]
    answering = len(results) - len(silent)
    relayed = sum(each.path == "relayed" for each in results)
    by_relay = f", {relayed} of them by a relay" if relayed else ""
    if answering:
        yield GOOD, f"{answering} of {len(results)} peers answer now{by_relay}"
    if silent and not answering:
        yield BAD, _nobody(node, results)
    elif silent:
        yield BAD, f"{len(silent)} of {len(results)} peers do not answer now: {_named(silent)}"
    retained = sorted(node.view.peers[key].name for key in node.view.retained if key in node.view.peers)
    if retained:
        names = describe.listed(retained, most=NAMED)
        yield WARNING, f"the controller lost these peers, which are kept until they rejoin: {names}"


def _nobody(node: DoctorContext, results: Sequence[PingResult]) -> str:
    observed = node.observed_peers().values()
    sent, came = sum(each.sent for each in observed), sum(each.received for each in observed)
    return (
        f"none of {len(results)} peers answers now ({_named(results)}): all are away, or a firewall lets no "
        f"UDP from port {node.config.listen_port} out to them ({sent} bytes were sent, {came} received)"
    )


def _named(silent: Sequence[PingResult]) -> str:
    names = [f"{each.name} ({each.error})" if each.error else each.name for each in silent]
    return describe.listed(names, most=NAMED)
