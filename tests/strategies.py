# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mesh is made of, for hypothesis: few distinct values, so that they meet and collide."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

from jaywalk.zone.marks import REV_LIMIT
from jaywalk.zone.models import Lease, Peer
from jaywalk.zone.requests import AGENT_OPS, REPORT, Request, new_nonce
from tests.proven_nodes import pair_of


def key(number: int) -> str:
    """The public key of a node (:mod:`tests.proven_nodes`), the same for the same number."""
    return pair_of(number).public


keys = st.integers(0, 9).map(key)
any_keys = st.binary(min_size=32, max_size=32).filter(any).map(lambda raw: base64.b64encode(raw).decode())
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
ports = st.integers(1, 65535)
naturals = st.integers(0, 2**53 - 1)

ipv4 = st.integers(0x0A140001, 0x0A140FFE).map(lambda n: f"10.20.{(n >> 8) & 255}.{n & 255}")
ipv6 = st.integers(1, 0xFFFF).map(lambda n: f"fd20::{n:x}")
hosts = st.one_of(ipv4, ipv6)
prefixes4 = st.tuples(st.integers(16, 31), st.integers(0, 255)).map(lambda n: f"172.{n[0]}.{n[1]}.0/24")
prefixes6 = st.integers(1, 0xFFFF).map(lambda n: f"fd21:{n:x}::/64")
prefixes = st.one_of(prefixes4, prefixes6)
endpoints = st.one_of(
    st.just(""),
    st.tuples(st.integers(1, 254), ports).map(lambda n: f"192.0.2.{n[0]}:{n[1]}"),
    st.tuples(st.integers(1, 0xFFFF), ports).map(lambda n: f"[2001:db8::{n[0]:x}]:{n[1]}"),
)

json_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([key(1), "10.20.0.1", "172.20.1.0/24", "192.0.2.1:51820", "node1", "\ud800", "\x00"]),
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)

host_lists = st.lists(hosts, min_size=1, max_size=4, unique=True).map(tuple)
local_lists = st.lists(hosts, max_size=2, unique=True).map(tuple)
prefix_lists = st.lists(prefixes, max_size=4, unique=True).map(tuple)
_peers: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "key": any_keys,
        "name": labels,
        "addresses": host_lists,
        "prefixes": prefix_lists,
        "endpoint": endpoints,
        "fixed": st.booleans(),
        "local": local_lists,
        "observed": endpoints,
        "symmetric": st.booleans(),
        "relay": st.integers(0, 65535),
        "seq": naturals,
        "rev": st.integers(0, REV_LIMIT - 1),
    }
)
peers = _peers.map(lambda fields: Peer(**fields))
leases = st.builds(
    Lease,
    key=any_keys,
    name=labels,
    addresses=host_lists,
    prefixes=prefix_lists,
    released=st.one_of(st.none(), st.just(0), st.floats(0, 2**40)),
    seq=naturals,
)
requests = st.builds(
    Request,
    op=st.sampled_from([op for op in AGENT_OPS if op != REPORT]),
    zone=st.just("zone-blue"),
    key=any_keys,
    name=st.one_of(st.just(""), labels),
    request_ip=st.lists(hosts, max_size=4, unique=True).map(tuple),
    former_ip=st.lists(hosts, max_size=4, unique=True).map(tuple),
    child_prefixes=prefix_lists,
    endpoint=endpoints,
    fixed=st.booleans(),
    local=local_lists,
    relay=st.integers(0, 65535),
    nonce=st.builds(new_nonce),
    seq=naturals,
)
reports = st.builds(
    Request,
    op=st.just(REPORT),
    zone=st.just("zone-blue"),
    key=any_keys,
    nonce=st.just(""),
    seq=naturals,
    observed=st.dictionaries(any_keys, endpoints.filter(bool), max_size=4),
)
