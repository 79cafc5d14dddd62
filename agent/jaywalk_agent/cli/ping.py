# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk ping``: which peers are meant, what is asked of them, and what is shown and returned."""

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

LISTED = 20
"""Peers that get a line each; of more only those in trouble do, and all together get a map."""
BISECTED = 10
"""Peers for which the largest size that passes is looked for."""
COLUMNS = 50
"""Letters in a line of the map."""
MOST_BYTES = 65535
MOST_QUESTIONS = 100


def run(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Asks and shows; returns 0 where all peers answered, 1 where some did not."""
    size, count = (
        _number(arguments.size, "size", 0, MOST_BYTES),
        _number(arguments.count, "count", 1, MOST_QUESTIONS),
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
    return 0 if all(each.answers for each in results) else 1


def _number(value: object, what: str, least: int, most: int) -> int:
    text = str(value)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InvalidValue(f"the {what} {validation.shown(value)} is out of range", f"use {least} to {most}")
    return int(text)


def _check_size(size: int, own: Peer) -> None:
    least = max(map(ping.smallest, own.addresses))
    if size and size < least:
        raise InvalidValue(f"the size {size} is too small for a question", f"use {least} bytes or more")


def chosen(view: ZoneView, own: Peer, words: Sequence[str], everybody: bool) -> list[str]:
    """The keys of the peers that a person means; raises ``InvalidValue`` where a word fits none or two."""
    if everybody and words:
        raise InvalidValue("--all and names of peers were given", "give one of them")
    if everybody:
        return [key for key in view.peers if key != own.key]
    if not words:
        raise InvalidValue("no peer was named", "name some, or give --all")
    return list(dict.fromkeys(_found(view, own, word) for word in words))


def _found(view: ZoneView, own: Peer, word: str) -> str:
    """The key of the peer with a name, key or address."""
    fitting = [
        peer
        for key, peer in view.peers.items()
        if word in (key, *peer.addresses) or word.lower() == peer.name
    ]
    if len(fitting) > 1:
        each = ", ".join(peer.addresses[0] for peer in fitting)
        raise InvalidValue(f"{len(fitting)} peers are called {word}", f"give one of their addresses: {each}")
    if not fitting:
        near = difflib.get_close_matches(word, [peer.name for peer in view.peers.values()], 3)
        known = f"did you mean {' or '.join(near)}?" if near else "'jaywalk status' lists them"
        raise InvalidValue(f"zone {view.zone.name} has no peer {validation.shown(word)}", known)
    if fitting[0].key == own.key:
        raise InvalidValue(f"{word} is this node itself", "name another one")
    return fitting[0].key


def names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The names of the zone's peers, for tab completion; none where the snapshot cannot be read."""
    with suppress(JaywalkError, OSError):
        config = AgentConfig.read(collect_options(parsed_args, os.environ))
        view = snapshot.current(config)
        if view is not None:
            return sorted(peer.name for peer in view.peers.values() if peer.name.startswith(prefix))
    return []


def _show_progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} questions settled", end="", file=sys.stderr, flush=True)


def _largest(
    config: AgentConfig, view: ZoneView, own: Peer, results: Sequence[PingResult], size: int
) -> dict[str, int]:
    """Of some peers that did not answer packets of ``size``: the largest that they answer, 0 for none."""
    silent = [each.key for each in results if not each.answers and not each.error] if size else []
    return ping.largest_passing(config, view, own, silent[:BISECTED], size) if silent else {}


def as_json(zone: str, results: Sequence[PingResult], largest: Mapping[str, int]) -> str:
    """For scripts; times are in seconds, sizes in bytes."""
    peers = [
        {
            "name": each.name,
            "public_key": each.key,
            "address": each.address,
            "path": each.path,
            "relay": each.relay or None,
            "agent": each.agent,
            "size": each.size,
            "largest_size": largest.get(each.key),
            "sent": each.sent,
            "lost": each.lost,
            "round_trips": [round(trip, 6) for trip in each.round_trips],
            "error": each.error or None,
        }
        for each in results
    ]
    answering = sum(each.answers for each in results)
    return json.dumps({"zone": zone, "asked": len(peers), "answering": answering, "peers": peers}, indent=2)


def as_text(zone: str, results: Sequence[PingResult], largest: Mapping[str, int]) -> str:
    """For a person: a line each, or where they are many a map and a line for each in trouble."""
    if not results:
        return f"zone {zone} has no other peer"
    many = len(results) > LISTED
    lines = [each for each in results if not many or not each.answers]
    table = [_row(each, largest.get(each.key)) for each in lines]
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
    letters = "".join(_letter(each) for each in results)
    rows = [letters[start : start + COLUMNS] for start in range(0, len(letters), COLUMNS)]
    return "\n".join([*rows, ". direct   r relayed   t tunnel without agent   X silent"])


def _letter(result: PingResult) -> str:
    if not result.answers:
        return "X"
    if result.path == "relayed":
        return "r"
    return "." if result.agent else "t"


def _summary(results: Sequence[PingResult]) -> str:
    answering = [each for each in results if each.answers]
    trips = sorted(trip * 1000 for each in answering for trip in each.round_trips)
    text = f"{len(answering)} of {len(results)} peers answer"
    relays = Counter(each.relay for each in answering if each.relay)
    if relays:
        by = ", ".join(f"{number} by {relay}" for relay, number in relays.most_common())
        text += f", {sum(relays.values())} relayed ({by})"
    if trips:
        middle = statistics.median(trips)
        text += f"; round trip {trips[0]:.1f}/{middle:.1f}/{trips[-1]:.1f} ms (least/median/most)"
    lost, sent = sum(each.lost for each in answering), sum(each.sent for each in answering)
    return text + (f"; {lost} of {sent} answers lost" if lost else "")
