# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk ping``: selects peers, probes them, and prints the results."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tabulate import tabulate

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.zone.models import Peer
from jaywalk.zone.view import ZoneView

from ..config import AgentConfig
from ..options import collect_options
from ..paths import ping
from ..paths.ping import PingResult
from ..status import report
from ..zone import snapshot

# Up to this number each peer has a line; of more peers only the unreachable ones have, beside a map of all.
MAX_LISTED = 20
# Peers for which the largest size that passes is determined.
MAX_BISECTED = 10
# Letters in a line of the map.
MAP_COLUMNS = 50
MAX_SIZE_BYTES = 65535
MAX_COUNT = 100


def run(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Probes peers and prints the results; returns 0 if all answered, else 1."""
    size, count = (
        _number(arguments.size, "size", 0, MAX_SIZE_BYTES),
        _number(arguments.count, "count", 1, MAX_COUNT),
    )
    view = snapshot.current(config)
    own = view.peers.get(config.existing_key(config.runner())) if view is not None else None
    if view is None:
        raise report.not_a_member(config)
    if own is None:
        raise JaywalkError(f"zone {config.zone} does not list this node's key", "see 'jaywalk status'")
    _check_size(size, own)
    keys = chosen(view, own, arguments.peers, arguments.all)
    watched = sys.stderr.isatty() and not arguments.json
    results = ping.probe_peers(
        config,
        view,
        own,
        keys,
        size=size,
        count=count,
        timeout=arguments.timeout,
        progress=_show_progress if watched else None,
    )
    if watched:
        print("\r\033[K", end="", file=sys.stderr)
    largest = _largest(config, view, own, results, size)
    print(
        as_json(config.zone, results, largest) if arguments.json else as_text(config.zone, results, largest)
    )
    return 0 if all(result.answers for result in results) else 1


def _number(value: object, what: str, least: int, most: int) -> int:
    text = str(value)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InvalidValue(f"the {what} {validation.shown(value)} is out of range", f"use {least} to {most}")
    return int(text)


def _check_size(size: int, own: Peer) -> None:
    least = max(map(ping.smallest, own.addresses))
    if size and size < least:
        raise InvalidValue(f"the size {size} is too small for a probe", f"use {least} bytes or more")


def chosen(view: ZoneView, own: Peer, names: Sequence[str], all_peers: bool) -> list[str]:
    """The keys of the given peers; raises ``InvalidValue`` for a name of no peer or of several."""
    if all_peers and names:
        raise InvalidValue("--all and names of peers were given", "give one of them")
    if all_peers:
        return [key for key in view.peers if key != own.key]
    if not names:
        raise InvalidValue("no peer was given", "give some, or --all")
    return list(dict.fromkeys(_found(view, own, name) for name in names))


def _found(view: ZoneView, own: Peer, text: str) -> str:
    """The key of the peer with the name, key or address ``text``."""
    matches = [
        peer
        for key, peer in view.peers.items()
        if text in (key, *peer.addresses) or text.lower() == peer.name
    ]
    if len(matches) > 1:
        hosts = ", ".join(peer.addresses[0] for peer in matches)
        raise InvalidValue(f"{len(matches)} peers are called {text}", f"give one of their addresses: {hosts}")
    if not matches:
        near = difflib.get_close_matches(text, [peer.name for peer in view.peers.values()], 3)
        known = f"did you mean {' or '.join(near)}?" if near else "'jaywalk status' lists them"
        raise InvalidValue(f"zone {view.zone.name} has no peer {validation.shown(text)}", known)
    if matches[0].key == own.key:
        raise InvalidValue(f"{text} is this node itself", "give another one")
    return matches[0].key


def complete_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The names of the zone's peers, for tab completion; none if the snapshot cannot be read."""
    with suppress(JaywalkError, OSError):
        config = AgentConfig.read(collect_options(parsed_args, os.environ))
        view = snapshot.current(config)
        if view is not None:
            return sorted(peer.name for peer in view.peers.values() if peer.name.startswith(prefix))
    return []


def _show_progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} probes done", end="", file=sys.stderr, flush=True)


def _largest(
    config: AgentConfig, view: ZoneView, own: Peer, results: Sequence[PingResult], size: int
) -> dict[str, int]:
    """The largest packets that some peers answered that did not answer ``size``; 0 for none."""
    silent = [result.key for result in results if not result.answers and not result.error] if size else []
    return ping.largest_passing(config, view, own, silent[:MAX_BISECTED], size) if silent else {}


def as_json(zone: str, results: Sequence[PingResult], largest: Mapping[str, int]) -> str:
    """JSON; times in seconds, sizes in bytes."""
    peers = [
        {
            "name": result.name,
            "public_key": result.key,
            "address": result.address,
            "path": result.path,
            "relay": result.relay or None,
            "agent": result.agent,
            "size": result.size,
            "largest_size": largest.get(result.key),
            "sent": result.sent,
            "lost": result.lost,
            "round_trips": [round(trip, 6) for trip in result.round_trips],
            "error": result.error or None,
        }
        for result in results
    ]
    answering = sum(result.answers for result in results)
    return json.dumps({"zone": zone, "asked": len(peers), "answering": answering, "peers": peers}, indent=2)


def as_text(zone: str, results: Sequence[PingResult], largest: Mapping[str, int]) -> str:
    """A line per peer; for many peers a map, and a line per peer that did not answer."""
    if not results:
        return f"zone {zone} has no other peer"
    many = len(results) > MAX_LISTED
    lines = [result for result in results if not many or not result.answers]
    table = [_row(result, largest.get(result.key)) for result in lines]
    headers = ("PEER", "ADDRESS", "PATH", "ROUND TRIP", "LOST", "")
    parts = [_map(results)] if many else []
    parts += [tabulate(table, headers=headers, tablefmt="plain")] if table else []
    return "\n\n".join([*parts, _summary(results)])


def _row(result: PingResult, largest: int | None) -> tuple[str, ...]:
    trip = f"{statistics.median(result.round_trips) * 1000:.1f} ms" if result.answers else "-"
    path = f"relayed by {result.relay}" if result.relay else result.path
    return (
        result.name,
        result.address,
        path,
        trip,
        f"{result.lost} of {result.sent}",
        _note(result, largest),
    )


def _note(result: PingResult, largest: int | None) -> str:
    if result.error:
        return result.error
    if largest:
        return f"{result.size} bytes do not pass, {largest} do: the path takes less than the interface's MTU"
    if result.answers and not result.agent:
        return "no agent answers, only the tunnel"
    return ""


def _map(results: Sequence[PingResult]) -> str:
    letters = "".join(_letter(result) for result in results)
    rows = [letters[start : start + MAP_COLUMNS] for start in range(0, len(letters), MAP_COLUMNS)]
    return "\n".join([*rows, ". direct   r relayed   t tunnel without agent   X silent"])


def _letter(result: PingResult) -> str:
    if not result.answers:
        return "X"
    if result.path == "relayed":
        return "r"
    return "." if result.agent else "t"


def _summary(results: Sequence[PingResult]) -> str:
    answering = [result for result in results if result.answers]
    trips = sorted(trip * 1000 for result in answering for trip in result.round_trips)
    text = f"{len(answering)} of {len(results)} peers answer"
    relays = Counter(result.relay for result in answering if result.relay)
    if relays:
        by = ", ".join(f"{number} by {relay}" for relay, number in relays.most_common())
        text += f", {sum(relays.values())} relayed ({by})"
    if trips:
        middle = statistics.median(trips)
        text += f"; round trip {trips[0]:.1f}/{middle:.1f}/{trips[-1]:.1f} ms (least/median/most)"
    lost, sent = sum(result.lost for result in answering), sum(result.sent for result in answering)
    return text + (f"; {lost} of {sent} answers lost" if lost else "")
