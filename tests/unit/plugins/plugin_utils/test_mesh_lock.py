# SPDX-License-Identifier: GPL-3.0-or-later
"""A play signs what the inventory grants, and nothing that a stolen supervisor lists."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.filter.mesh_lock import lock_public
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import InvalidValue
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.lock_keys import LockKey
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.signing import (
    StoredNode,
    StoredZone,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.statements import Signed
from ansible_collections.jaywalking.mesh.plugins.plugin_utils import mesh_lock

from tests.strategies import key

NOW = 1_800_000_000.0
PRIVATE = base64.b64encode(bytes(range(32))).decode()
VARIABLES: dict[str, Any] = {
    "jaywalk_lock_key": PRIVATE,
    "jaywalk_zones": [{"name": "zone-blue", "cidr": "10.20.0.0/20"}],
}
POOLS = ("10.20.0.0/20",)


def member(number: int, **fields: Any) -> dict[str, Any]:
    base = {"key": key(number), "name": f"web{number}", "addresses": [], "prefixes": [], "relay": False}
    return base | fields


def node(number: int, **fields: Any) -> StoredNode:
    return StoredNode(
        **{"key": key(number), "name": f"web{number}", "addresses": (f"10.20.0.{number}",)} | fields
    )


def zone(*nodes: StoredNode, signed: Signed | None = None) -> StoredZone:
    return StoredZone("zone-blue", POOLS, signed, nodes)


def stored(listed: StoredZone, plan: mesh_lock.Plan) -> StoredZone:
    """The zone once the statements of a plan are stored."""
    nodes = {node.key: node for node in listed.nodes}
    signed = listed.signed
    for found in plan.statements:
        fields = json.loads(found.statement)
        if fields[1] == "zone":
            signed = found
        else:
            nodes[fields[3]] = StoredNode(**{**vars(nodes[fields[3]]), "signed": found})
    return StoredZone(listed.name, listed.pools, signed, tuple(nodes.values()))


def test_the_inventorys_machines_are_signed_once_and_others_are_named() -> None:
    listed = zone(node(1), node(2), node(3, name="laptop"))
    machines = [member(1), member(2, prefixes="172.20.1.0/24")]
    plan = mesh_lock.plan(listed, machines, VARIABLES, NOW)
    signed = [json.loads(found.statement) for found in plan.statements]
    assert [fields[1] for fields in signed] == ["node", "node", "zone"]
    assert signed[0][3:8] == [key(1), "web1", ["10.20.0.1"], [], 0]
    assert signed[1][6] == ["172.20.1.0/24"]
    assert plan.unsigned == ("laptop",)
    again = mesh_lock.plan(
        stored(listed, plan), [member(1), member(2, prefixes="172.20.1.0/24")], VARIABLES, NOW
    )
    assert again.statements == again.after == ()
    assert again.unsigned == ("laptop",)


def test_what_a_stolen_supervisor_lists_beyond_the_inventory_is_not_signed() -> None:
    """Prefixes and a relay."""
    stolen = node(1, prefixes=("8.0.0.0/7",), relay=True)
    plan = mesh_lock.plan(zone(stolen), [member(1)], VARIABLES, NOW)
    assert json.loads(plan.statements[0].statement)[6:8] == [[], 0]
    assert plan.unsigned == ("web1",)


@pytest.mark.parametrize(
    ("listed", "granted", "why"),
    [
        (node(1, addresses=("192.0.2.1",)), member(1), "192.0.2.1 of web1 lies outside of 10.20.0.0/20"),
        (node(1, addresses=("10.20.0.2",)), member(1), "would be signed with 10.20.0.2"),
        (node(1, name="evil"), member(1), "the supervisor calls web1 of zone zone-blue evil"),
        (node(1), member(1, addresses=["10.20.0.9"]), "was to have 10.20.0.9"),
    ],
)
def test_what_the_supervisor_assigned_is_checked(
    listed: StoredNode, granted: dict[str, Any], why: str
) -> None:
    """The address of a machine outside of a limited play is another's, too."""
    other = zone(node(2))
    before = stored(other, mesh_lock.plan(other, [member(2)], VARIABLES, NOW))
    with pytest.raises(InvalidValue, match=why):
        mesh_lock.plan(
            StoredZone("zone-blue", POOLS, before.signed, (*before.nodes, listed)), [granted], VARIABLES, NOW
        )


def test_a_statement_of_somebody_else_is_named_and_not_built_upon() -> None:
    listed = zone(node(1))
    forged = mesh_lock.plan(
        listed, [], {**VARIABLES, "jaywalk_lock_key": LockKey.generate().private_text()}, NOW
    )
    with pytest.raises(InvalidValue, match="signed by none of the given keys"):
        mesh_lock.plan(stored(listed, forged), [member(1)], VARIABLES, NOW)


def test_a_machine_without_a_lease_waits_as_in_check_mode() -> None:
    plan = mesh_lock.plan(zone(), [member(1)], VARIABLES, NOW)
    assert plan.waiting == ("web1",)
    assert [json.loads(found.statement)[1] for found in plan.statements] == ["zone"]


def test_agents_pin_the_public_halves() -> None:
    public, recovery = lock_public(PRIVATE), LockKey.generate().public
    assert mesh_lock.pinned_keys(VARIABLES) == [public]
    assert mesh_lock.pinned_keys({**VARIABLES, "jaywalk_lock_recovery_key": recovery}) == [public, recovery]
    assert mesh_lock.pinned_keys({**VARIABLES, "jaywalk_lock": "no"}) == []
    with pytest.raises(Exception, match="jaywalk_lock_key holds no private lock key") as refused:
        lock_public(PRIVATE[:-3])
    assert PRIVATE[:-3] not in str(refused.value)
