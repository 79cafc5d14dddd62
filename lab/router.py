# SPDX-License-Identifier: GPL-3.0-or-later
"""A street's router: a namespace with a leg on the internet, a bridge for its street, and nftables between.

The builders are pure and give batches for ip(8) and nft(8); the doers hand them over. Why each rule
is there stands in lab/README.md.
"""

from __future__ import annotations

from pathlib import Path

from lab import network, plan
from lab.topology import NETWORK, Street, gateway6, place6

LAN_BRIDGE = "lan"
_TABLE = """\
table inet street
delete table inet street
table inet street {{
    chain cin {{
        type filter hook input priority filter
        ct state established,related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        iifname "wan" drop
    }}
    chain cfwd {{
        type filter hook forward priority filter; policy drop
        iifname "lan" accept
        ct state established,related accept
        ct status dnat accept
    }}
{nat}}}
"""

_NAT = """\
    chain pre {{
        type nat hook prerouting priority dstnat
{forwards}    }}
    chain post {{
        type nat hook postrouting priority srcnat
        oifname "wan" ip saddr {lan} masquerade{random}
{hairpin}    }}
"""


def ruleset(street: Street) -> str:
    """What nft(8) reads: it takes the place of the router's last rules in one step."""
    return _TABLE.format(nat="" if street.nat == "none" else _nat(street))


def _nat(street: Street) -> str:
    forwards = ""
    for number, port in enumerate(street.forward):
        target = f"udp dport {port} dnat ip to {plan.place(street.network, plan.FIRST_MACHINE + number).ip}"
        forwards += f'        iifname "wan" {target}\n'
        if street.hairpin:
            forwards += f'        iifname "lan" ip daddr {street.wan} {target}\n'
    back = f'        oifname "lan" ip saddr {street.lan} ct status dnat snat ip to {street.wan}\n'
    return _NAT.format(
        forwards=forwards,
        lan=street.lan,
        random=" fully-random" if street.nat == "symmetric" else "",
        hairpin=back if street.hairpin else "",
    )


def internet_batch() -> list[str]:
    """In the internet's namespace: a gateway that knows no way out and says so, on a port as any other."""
    return [
        "link set lo up",
        f"link add {plan.UPLINK} type veth peer name gateway",
        f"addr add {plan.place(NETWORK, plan.GATEWAY)} dev {plan.UPLINK}",
        f"addr add {gateway6()} dev {plan.UPLINK} nodad",
        f"link set {plan.UPLINK} up",
        "link set gateway up",
        "route add unreachable default",
    ]


def port_batch(prefix: str, street: Street) -> list[str]:
    """In the internet's namespace: the port that a street's router is plugged into."""
    port = plan.router_port(street.name)
    netns = plan.router_netns(prefix, street.name)
    return [f"link add {port} type veth peer name wan netns {netns}", f"link set {port} up"]


def router_batch(street: Street) -> list[str]:
    """In the router's namespace: its bridge and both its addresses."""
    return [
        "link set lo up",
        *network.bridge_batch(LAN_BRIDGE),
        f"addr add {plan.place(street.network, plan.GATEWAY)} dev {LAN_BRIDGE}",
        *([f"addr add {place6(street.lan6, plan.GATEWAY)} dev {LAN_BRIDGE} nodad"] if street.lan6 else []),
        *wan_batch(street),
    ]


def wan_batch(street: Street) -> list[str]:
    """In the router's namespace: the public address and the way out, whatever they were before."""
    batch = [
        "addr flush dev wan",
        f"addr add {street.wan}/{NETWORK.prefixlen} dev wan",
        "link set wan up",
        f"route replace default via {plan.place(NETWORK, plan.GATEWAY).ip}",
    ]
    if street.lan6:
        batch += [f"addr add {street.wan6} dev wan nodad", f"route replace default via {gateway6().ip}"]
    return batch


def way_batch(street: Street) -> list[str]:
    """In the internet's namespace: the gateway's way to a street with IPv6."""
    return [f"route replace {street.lan6} via {street.wan6.ip}"] if street.lan6 else []


def settings(street: Street) -> list[str]:
    """The router's sysctl(8) settings."""
    answers = ["net.ipv4.conf.wan.proxy_arp=1", "net.ipv4.neigh.wan.proxy_delay=0"]
    return [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        *(answers if street.nat == "none" else []),
    ]


def make_internet(prefix: str) -> None:
    """Make the internet's namespace; its switch is started apart."""
    netns = plan.internet_netns(prefix)
    with network.new_netns(netns):
        network.ip(internet_batch(), netns)
        network.sysctl(netns, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        # Its own kernel has no business with what passes: no answer for another leg, no words at later ports.
        network.sysctl(netns, "net.ipv4.conf.all.arp_ignore=1", "net.ipv6.conf.default.disable_ipv6=1")
        network.whole_checksums(netns, plan.UPLINK)


def make(prefix: str, street: Street) -> None:
    """Make a street's router and plug it into the internet."""
    netns = plan.router_netns(prefix, street.name)
    with network.new_netns(netns):
        network.ip(port_batch(prefix, street), plan.internet_netns(prefix))
        network.whole_checksums(netns, "wan")
        network.ip(router_batch(street), netns)
        network.sysctl(netns, *settings(street))
        network.ip(way_batch(street), plan.internet_netns(prefix))
        if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
            network.sysctl(netns, "net.bridge.bridge-nf-call-iptables=0")
        set_rules(prefix, street)


def set_rules(prefix: str, street: Street) -> None:
    """Give the router its rules; flows that it knows go on as they were."""
    network.inside(plan.router_netns(prefix, street.name), ["nft", "-f", "-"], stdin=ruleset(street))


def renumber(prefix: str, street: Street) -> None:
    """Give the router the public address of `street`, as a provider does over night."""
    network.ip(wan_batch(street), plan.router_netns(prefix, street.name))
    network.ip(way_batch(street), plan.internet_netns(prefix))
    set_rules(prefix, street)


def forget(prefix: str, street: Street) -> None:
    """Lose all mappings at once, as a router does that restarts."""
    network.inside(plan.router_netns(prefix, street.name), ["conntrack", "--flush"])
