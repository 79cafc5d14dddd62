# SPDX-License-Identifier: GPL-3.0-or-later
"""The program ``wg`` (wg(8)), which is the same on each platform: ``wg show`` and ``wg set``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any

from ..core.errors import CommandFailed
from ..core.runner import Runner
from .backend import Failure
from .interface import ObservedInterface, ObservedPeer, WgPeer
from .steps import (
    RemovePeer,
    RemovePresharedKey,
    ResetPeer,
    SetEndpoint,
    SetKey,
    SetListenPort,
    SetPeer,
    Step,
    WgStep,
)

# Linux bounds a command line at 2 MiB; a peer takes about 200 bytes.
MAX_ARGUMENT_BYTES = 512 * 1024
# To find out which of many peers are refused, each refused peer takes twice the logarithm of their number.
MAX_CALLS = 200
# What ``wg set`` prints where no single peer is at fault.
_OF_ALL_PEERS = ("No such device", "Operation not permitted", "Protocol not supported")


def observed_from_dump(name: str, dump: str, **link: Any) -> ObservedInterface:
    """The interface from the output of ``wg show dump``, and ``link``, its other fields."""
    own, *peers = dump.splitlines()
    public, listen_port = own.split("\t")[1:3]
    return ObservedInterface(
        name=name,
        public_key="" if public == "(none)" else public,
        listen_port=int(listen_port),
        peers={peer.key: peer for peer in map(_peer, peers)},
        **link,
    )


def observe_peers(runner: Runner, name: str) -> dict[str, ObservedPeer]:
    """The peers of an interface at this moment; none where there is no such interface."""
    shown = runner.run(["wg", "show", name, "dump"])
    if shown.returncode != 0:
        return {}
    return {peer.key: peer for peer in map(_peer, shown.stdout.splitlines()[1:])}


def _peer(line: str) -> ObservedPeer:
    key, preshared, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
    return ObservedPeer(
        key=key,
        allowed_ips=() if allowed == "(none)" else tuple(sorted(allowed.split(","))),
        endpoint="" if endpoint == "(none)" else endpoint,
        keepalive=0 if keepalive == "off" else int(keepalive),
        handshake=int(handshake),
        received=int(received),
        sent=int(sent),
        preshared=preshared != "(none)",
    )


def listen_ports(runner: Runner) -> dict[str, int]:
    """The UDP port of each WireGuard interface that ``wg`` lists, by the system's name.

    Where an interface goes away meanwhile, ``wg`` fails as a whole and lists the others all the same.
    """
    lines = (line.split() for line in runner.run(["wg", "show", "all", "listen-port"]).stdout.splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}


@singledispatch
def set_arguments(step: WgStep) -> tuple[str, ...]:
    """The arguments of ``wg set`` behind the interface's name."""
    raise TypeError(step)


@set_arguments.register
def _set_key(step: SetKey) -> tuple[str, ...]:
    return "private-key", step.private_key_file


@set_arguments.register
def _set_listen_port(step: SetListenPort) -> tuple[str, ...]:
    return "listen-port", str(step.port)


@set_arguments.register
def _set_peer(step: SetPeer) -> tuple[str, ...]:
    return "peer", step.key, *_peer_arguments(step.endpoint, step.keepalive, step.allowed_ips)


@set_arguments.register
def _remove_peer(step: RemovePeer) -> tuple[str, ...]:
    return "peer", step.key, "remove"


@set_arguments.register
def _reset_peer(step: ResetPeer) -> tuple[str, ...]:
    peer: WgPeer = step.peer
    anew = _peer_arguments(peer.endpoint, peer.keepalive, peer.allowed_ips)
    return "peer", peer.key, "remove", "peer", peer.key, *anew


@set_arguments.register
def _set_endpoint(step: SetEndpoint) -> tuple[str, ...]:
    return "peer", step.key, *_peer_arguments(step.peer.endpoint, None, None)


@set_arguments.register
def _remove_preshared_key(step: RemovePresharedKey) -> tuple[str, ...]:
    # wg takes an empty file for no key.
    return "peer", step.key, "preshared-key", "/dev/null"


def _peer_arguments(
    endpoint: str, keepalive: int | None, allowed_ips: tuple[str, ...] | None
) -> tuple[str, ...]:
    return (
        *(("endpoint", endpoint) if endpoint else ()),
        *(("persistent-keepalive", str(keepalive)) if keepalive is not None else ()),
        *(("allowed-ips", ",".join(allowed_ips)) if allowed_ips is not None else ()),
    )


def execute(runner: Runner, name: str, steps: Sequence[Step]) -> list[Failure]:
    """Executes the steps for ``wg set``, and no others; returns those that were refused."""
    chosen = [step for step in steps if isinstance(step, WgStep)]
    failed = set_many(runner, name, [set_arguments(step) for step in chosen])
    return [Failure(chosen[index], error) for index, error in sorted(failed.items())]


def set_many(runner: Runner, name: str, parts: Sequence[Sequence[str]]) -> dict[int, CommandFailed]:
    """Passes the parts, each for one peer or setting, to ``wg set`` in as few calls as their length allows.

    ``wg`` ends at the first part that is refused, so the others are tried without it.  Returns the errors by
    the index of their part.
    """
    pending = list(_calls(parts))
    failed: dict[int, CommandFailed] = {}
    for calls in itertools.count(1):
        if not pending:
            break
        indices = pending.pop(0)
        error = _set(runner, name, [word for index in indices for word in parts[index]])
        if error is None:
            continue
        if len(indices) == 1 or calls >= MAX_CALLS or any(text in error.stderr for text in _OF_ALL_PEERS):
            failed.update(dict.fromkeys(indices, error))
        else:
            middle = len(indices) // 2
            pending[:0] = [indices[:middle], indices[middle:]]
    return failed


def _calls(parts: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """The indices of the parts that fit into one call each."""
    indices: list[int] = []
    size = 0
    for index, part in enumerate(parts):
        length = sum(map(len, part)) + len(part)
        if indices and size + length > MAX_ARGUMENT_BYTES:
            yield indices
            indices, size = [], 0
        indices.append(index)
        size += length
    if indices:
        yield indices


def _set(runner: Runner, name: str, words: Sequence[str]) -> CommandFailed | None:
    argv = ["wg", "set", name, *words]
    done = runner.run(argv)
    if done.returncode == 0:
        return None
    # wg quotes a key that it cannot read, and that may be most of a private one.
    return CommandFailed(argv, done.returncode, re.sub(r"(length or format).*", r"\1", done.stderr))
