# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables rules by which peers reach the networks behind this node, with their own addresses.

An accept in a table of ours would not keep another table from dropping the packet, so the accepting rules go
into the chains of others, each marked by a comment; into the chain DOCKER-USER where there is Docker.  A
table of ours keeps packets that enter the tunnel from being masqueraded, as container engines do.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaywalk.core.errors import MissingTool
from jaywalk.core.runner import Runner, run_checked

MARK = "jaywalk"
DOCKER = "DOCKER-USER"
BEFORE_MASQUERADING = "srcnat - 5"


@dataclass(frozen=True)
class Chain:
    """A chain by its table; ``family`` is nft's: ip, ip6 or inet."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"

    def covers(self, prefix: str) -> bool:
        """Whether the chain gets packets of the prefix's IP version."""
        return self.family in ("inet", _family(prefix))


@dataclass(frozen=True)
class Rule:
    """A rule of ours; two in one chain with one comment are the same rule."""

    chain: Chain
    comment: str
    text: str = ""
    handle: int = 0

    @property
    def key(self) -> tuple[Chain, str]:
        return self.chain, self.comment


def apply(runner: Runner, interface: str, prefixes: Sequence[str]) -> list[str]:
    """Makes the rules for ``interface`` those that ``prefixes`` need; returns the lines for ``nft``.

    Without prefixes it removes all rules of ours.  Raises ``CommandFailed``, and ``MissingTool`` without
    ``nft``.
    """
    lines = missing(runner, interface, prefixes)
    if lines:
        run_checked(runner, ["nft", "-f", "-"], "".join(f"{line}\n" for line in lines))
    return lines


def missing(runner: Runner, interface: str, prefixes: Sequence[str]) -> list[str]:
    """The lines for ``nft -f`` that :func:`apply` would execute; changes nothing."""
    return plan(_ruleset(runner), interface, prefixes)


def rule_prefixes(runner: Runner, interface: str) -> list[str]:
    """The prefixes for which the machine has our rules; none without ``nft`` or a kernel that has it."""
    try:
        tables = runner.run(["nft", "list", "tables"])
    except MissingTool:
        return []
    if tables.returncode != 0 or f"table {_own_table(interface)}" not in tables.stdout.splitlines():
        return []
    return sorted({rule.comment.split()[-1] for rule in _present(_ruleset(runner), interface)})


def plan(ruleset: Sequence[dict[str, Any]], interface: str, prefixes: Sequence[str]) -> list[str]:
    """The lines for ``nft -f`` from ``ruleset`` (``nft -j list ruleset``) to the rules for ``prefixes``."""
    desired = {rule.key: rule for rule in _desired(ruleset, interface, prefixes)}
    present = {rule.key: rule for rule in _present(ruleset, interface)}
    table = _own_table(interface)
    lines = [
        f"delete rule {rule.chain} handle {rule.handle}"
        for key, rule in present.items()
        if key not in desired and (prefixes or f"{rule.chain.family} {rule.chain.table}" != table)
    ]
    tables = {f"{found['family']} {found['name']}" for found in _objects(ruleset, "table")}
    has_table = table in tables
    if not prefixes:
        return [*lines, *([f"delete table {table}"] if has_table else [])]
    absent = [rule for key, rule in desired.items() if key not in present]
    if absent and not has_table:
        hook = f"type nat hook postrouting priority {BEFORE_MASQUERADING};"
        lines += [f"add table {table}", f"add chain {table} postrouting {{ {hook} }}"]
    return lines + [f'insert rule {rule.chain} {rule.text} comment "{rule.comment}"' for rule in absent]


def _desired(ruleset: Sequence[dict[str, Any]], interface: str, prefixes: Sequence[str]) -> Iterator[Rule]:
    family, table = _own_table(interface).split()
    own = Chain(family, table, "postrouting")
    for prefix in prefixes:
        version, mark = _family(prefix), f"{MARK} {interface}"
        yield Rule(
            own,
            f"{mark} keeps {prefix}",
            f'oifname "{interface}" {version} saddr {prefix} snat {version} to {version} saddr',
        )
        for chain in _forwarding(ruleset):
            if chain.covers(prefix):
                into = f'iifname "{interface}" {version} daddr {prefix} accept'
                back = f'oifname "{interface}" {version} saddr {prefix} accept'
                yield Rule(chain, f"{mark} to {prefix}", into)
                yield Rule(chain, f"{mark} from {prefix}", back)


def _forwarding(ruleset: Sequence[dict[str, Any]]) -> list[Chain]:
    """The chains of others that filter forwarded packets; DOCKER-USER in place of the others of its table."""
    docker = {_chain(found) for found in _objects(ruleset, "chain") if found["name"] == DOCKER}
    tables = {(chain.family, chain.table) for chain in docker}
    chains = [
        _chain(found)
        for found in _objects(ruleset, "chain")
        if (found.get("hook"), found.get("type")) == ("forward", "filter")
        and found["family"] in ("ip", "ip6", "inet")
        and (found["family"], found["table"]) not in tables
    ]
    return [*chains, *sorted(docker, key=str)]


def _present(ruleset: Sequence[dict[str, Any]], interface: str) -> Iterator[Rule]:
    for found in _objects(ruleset, "rule"):
        comment = str(found.get("comment", ""))
        if comment.startswith(f"{MARK} {interface} "):
            chain = Chain(found["family"], found["table"], found["chain"])
            yield Rule(chain, comment, handle=int(found["handle"]))


def _ruleset(runner: Runner) -> list[dict[str, Any]]:
    shown: dict[str, list[dict[str, Any]]] = json.loads(run_checked(runner, ["nft", "-j", "list", "ruleset"]))
    return shown["nftables"]


def _objects(ruleset: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item[kind] for item in ruleset if kind in item]


def _chain(found: dict[str, Any]) -> Chain:
    return Chain(found["family"], found["table"], found["name"])


def _own_table(interface: str) -> str:
    return f"inet {MARK}_{interface}"


def _family(prefix: str) -> str:
    return "ip" if ipaddress.ip_network(prefix).version == 4 else "ip6"
