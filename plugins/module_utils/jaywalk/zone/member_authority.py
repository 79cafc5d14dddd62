# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member of a zone may have by its own word: the rules, as pure functions of the zone's policy.

The supervisor decides with them, and the Ansible modules predict with them in check mode.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from ..core import ip
from ..core.errors import RequestRefused
from .options import ANY, PRIVATE
from .policy import Policy
from .record_fields import ENDPOINT, RELAY

# RFC 1918, RFC 6598 and RFC 4193.
PRIVATE_NETWORKS = tuple(
    ip.networks(("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)


def may_relay(policy: Policy, grants: Collection[str]) -> bool:
    """Whether a node with ``grants`` may be a relay."""
    return policy.member_relay or RELAY in grants


def may_fix_endpoint(policy: Policy, grants: Collection[str]) -> bool:
    """Whether the declared endpoint of a node with ``grants`` counts as the operator's word."""
    return policy.member_fixed_endpoint or ENDPOINT in grants


def without_relay_grant(zone: str) -> str:
    """The note for a node that is no relay although it offers to be one."""
    return (
        f"zone {zone} lets no node relay by its own word, so this node does not: an operator grants it "
        "(jaywalk_lease with grants: [relay])"
    )


def without_endpoint_grant(zone: str) -> str:
    """The note for a node whose declared endpoint is one of several that peers try."""
    return (
        f"zone {zone} lets no node fix its endpoint by its own word, so that peers also try where they see "
        "this node: an operator grants it (jaywalk_lease with grants: [endpoint])"
    )


def check_member_prefixes(
    policy: Policy, zone: str, prefixes: Iterable[str], reserved: Collection[str]
) -> None:
    """Raises ``RequestRefused`` for a prefix that the policy lets no member announce.

    ``reserved`` are the prefixes that an operator reserved for the node.
    """
    if ANY in policy.member_prefixes:
        return
    permitted = ip.networks(text for text in policy.member_prefixes if text != PRIVATE)
    if PRIVATE in policy.member_prefixes:
        permitted += PRIVATE_NETWORKS
    granted = ip.networks(reserved)
    for prefix in prefixes:
        if not is_within(prefix, permitted) and not is_within(prefix, granted):
            raise RequestRefused(
                "prefix-not-permitted",
                f"zone {zone} lets members announce {', '.join(policy.member_prefixes) or 'no prefixes'} and "
                f"not {prefix}: have an operator reserve it for this node (jaywalk_lease with child_prefixes)"
                f", or permit it (zone set {zone} --member-prefixes)",
            )


def is_within(prefix: str, networks: Iterable[ip.Network]) -> bool:
    """Whether one of ``networks`` contains the network ``prefix``."""
    network = ipaddress.ip_network(prefix)
    around = ip.holding(
        [other for other in networks if other.prefixlen <= network.prefixlen], str(network[0])
    )
    return around is not None
