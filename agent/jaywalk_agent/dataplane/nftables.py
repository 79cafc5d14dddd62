# SPDX-License-Identifier: GPL-3.0-or-later
"""What nftables must say so that peers reach the networks behind this node, and see their addresses.

An accept in a table of ours would not keep another table from dropping the packet, so the accepting rules go
into the chains of others, marked by a comment each: where there is Docker into its chain DOCKER-USER.  A
table of ours keeps masquerading, which container engines do, away from what enters the tunnel.
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

    def takes(self, prefix: str) -> bool:
        """Whether packets of the prefix's IP version come along here."""
        return self.family in ("inet", _family(prefix))


@dataclass(frozen=True)
class Rule:
    """A rule of ours; two in one place with one comment are equal."""

    chain: Chain
    comment: str
    text: str = ""
    handle: int = 0

    @property
    def key(self) -> tuple[Chain, str]:
        return self.chain, self.comment


def bring(runner: Runner, interface: str, prefixes: Sequence[str]) -> list[str]:
    """Makes the machine's rules for ``interface`` those that ``prefixes`` need, and returns what was done.

    No prefixes: all of ours are taken away.  Raises ``CommandFailed``, and ``MissingTool`` without ``nft``.
    """
    lines = missing(runner, interface, prefixes)
    if lines:
        run_checked(runner, ["nft", "-f", "-"], "".join(f"{line}\n" for line in lines))
    return lines


def missing(runner: Runner, interface: str, prefixes: Sequence[str]) -> list[str]:
    """What :func:`bring` would do, as lines for ``nft -f``; changes nothing."""
    return plan(_ruleset(runner), interface, prefixes)


def kept(runner: Runner, interface: str) -> list[str]:
    """The prefixes that the machine has our rules for; none without ``nft`` or a kernel that has it."""
    try:
        tables = runner.run(["nft", "list", "tables"])
    except MissingTool:
        return []
    if tables.returncode != 0 or f"table {_own_table(interface)}" not in tables.stdout.splitlines():
        return []
    return sorted({rule.comment.split()[-1] for rule in _present(_ruleset(runner), interface)})


def plan(ruleset: Sequence[dict[str, Any]], interface: str, prefixes: Sequence[str]) -> list[str]:
    """The lines for ``nft -f`` from what ``nft -j list ruleset`` shows to what ``prefixes`` need."""
    wanted = {rule.key: rule for rule in _wanted(ruleset, interface, prefixes)}
    present = {rule.key: rule for rule in _present(ruleset, interface)}
    table = _own_table(interface)
    lines = [
        f"delete rule {rule.chain} handle {rule.handle}"
        for key, rule in present.items()
        if key not in wanted and (prefixes or f"{rule.chain.family} {rule.chain.table}" != table)
    ]
    has_table = any(table == f"{each['family']} {each['name']}" for each in _each(ruleset, "table"))
    if not prefixes:
        return [*lines, *([f"delete table {table}"] if has_table else [])]
    absent = [rule for key, rule in wanted.items() if key not in present]
    if absent and not has_table:
        hook = f"type nat hook postrouting priority {BEFORE_MASQUERADING};"
        lines += [f"add table {table}", f"add chain {table} postrouting {{ {hook} }}"]
    return lines + [f'insert rule {rule.chain} {rule.text} comment "{rule.comment}"' for rule in absent]


def _wanted(ruleset: Sequence[dict[str, Any]], interface: str, prefixes: Sequence[str]) -> Iterator[Rule]:
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
            if chain.takes(prefix):
                into = f'iifname "{interface}" {version} daddr {prefix} accept'
                back = f'oifname "{interface}" {version} saddr {prefix} accept'
                yield Rule(chain, f"{mark} to {prefix}", into)
                yield Rule(chain, f"{mark} from {prefix}", back)


def _forwarding(ruleset: Sequence[dict[str, Any]]) -> list[Chain]:
    """The chains of others that decide on forwarded packets; Docker's own in place of those around it."""
    docker = {_chain(each) for each in _each(ruleset, "chain") if each["name"] == DOCKER}
    tables = {(chain.family, chain.table) for chain in docker}
    found = [
        _chain(each)
        for each in _each(ruleset, "chain")
        if (each.get("hook"), each.get("type")) == ("forward", "filter")
        and each["family"] in ("ip", "ip6", "inet")
        and (each["family"], each["table"]) not in tables
    ]
    return [*found, *sorted(docker, key=str)]


def _present(ruleset: Sequence[dict[str, Any]], interface: str) -> Iterator[Rule]:
    for each in _each(ruleset, "rule"):
        comment = str(each.get("comment", ""))
        if comment.startswith(f"{MARK} {interface} "):
            place = Chain(each["family"], each["table"], each["chain"])
            yield Rule(place, comment, handle=int(each["handle"]))


def _ruleset(runner: Runner) -> list[dict[str, Any]]:
    shown: dict[str, list[dict[str, Any]]] = json.loads(run_checked(runner, ["nft", "-j", "list", "ruleset"]))
    return shown["nftables"]


def _each(ruleset: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each[kind] for each in ruleset if kind in each]


def _chain(found: dict[str, Any]) -> Chain:
    return Chain(found["family"], found["table"], found["name"])


def _own_table(interface: str) -> str:
    return f"inet {MARK}_{interface}"


def _family(prefix: str) -> str:
    return "ip" if ipaddress.ip_network(prefix).version == 4 else "ip6"
