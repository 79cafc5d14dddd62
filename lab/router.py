# SPDX-License-Identifier: GPL-3.0-or-later
"""A NAT site's router: a namespace with an interface on the internet, a bridge for the site, and nftables.

The `..._batch` functions and `ruleset` are pure and return batches for ip(8) and nft(8); the other
functions apply them. lab/README.md gives the reason of each rule.
"""

from __future__ import annotations

from pathlib import Path

from lab import addressing, naming, network
from lab.topology import NETWORK, Site, gateway6, host_address6

LAN_BRIDGE = "lan"
_TABLE = """\
table inet site
delete table inet site
table inet site {{
    chain input {{
        type filter hook input priority filter
        ct state established,related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop
        iifname "lan" accept
        ct state established,related accept
        ct status dnat accept
    }}
{nat}}}
"""

_NAT = """\
    chain prerouting {{
        type nat hook prerouting priority dstnat
{forwards}    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "wan" ip saddr {lan} masquerade{random}
{hairpin}    }}
"""


def ruleset(site: Site) -> str:
    """Return the input for nft(8); it replaces the router's last rules in one transaction."""
    return _TABLE.format(nat="" if site.nat == "none" else _nat_rules(site))


def _nat_rules(site: Site) -> str:
    forwards = ""
    for number, port in enumerate(site.forward):
        machine = addressing.host_address(site.network, addressing.FIRST_MACHINE_NUMBER + number).ip
        target = f"udp dport {port} dnat ip to {machine}"
        forwards += f'        iifname "wan" {target}\n'
        if site.hairpin:
            forwards += f'        iifname "lan" ip daddr {site.wan} {target}\n'
    hairpin = f'        oifname "lan" ip saddr {site.lan} ct status dnat snat ip to {site.wan}\n'
    return _NAT.format(
        forwards=forwards,
        lan=site.lan,
        random=" fully-random" if site.nat == "symmetric" else "",
        hairpin=hairpin if site.hairpin else "",
    )


def internet_batch() -> list[str]:
    """In the internet's namespace: create a gateway without a default route, on a port like any other."""
    return [
        "link set lo up",
        f"link add {naming.UPLINK} type veth peer name gateway",
        f"addr add {addressing.host_address(NETWORK, addressing.GATEWAY_NUMBER)} dev {naming.UPLINK}",
        f"addr add {gateway6()} dev {naming.UPLINK} nodad",
        f"link set {naming.UPLINK} up",
        "link set gateway up",
        "route add unreachable default",
    ]


def port_batch(prefix: str, site: Site) -> list[str]:
    """In the internet's namespace: create the port of a site's router."""
    port = naming.router_port(site.name)
    netns = naming.router_netns(prefix, site.name)
    return [f"link add {port} type veth peer name wan netns {netns}", f"link set {port} up"]


def router_batch(site: Site) -> list[str]:
    """In the router's namespace: create its bridge and set the addresses of both sides."""
    address = addressing.host_address(site.network, addressing.GATEWAY_NUMBER)
    batch = [
        "link set lo up",
        *network.create_bridge_batch(LAN_BRIDGE),
        f"addr add {address} dev {LAN_BRIDGE}",
    ]
    if site.lan6:
        address6 = host_address6(site.lan6, addressing.GATEWAY_NUMBER)
        batch.append(f"addr add {address6} dev {LAN_BRIDGE} nodad")
    return [*batch, *wan_batch(site)]


def wan_batch(site: Site) -> list[str]:
    """In the router's namespace: replace the public address and the default route."""
    batch = [
        "addr flush dev wan",
        f"addr add {site.wan}/{NETWORK.prefixlen} dev wan",
        "link set wan up",
        f"route replace default via {addressing.host_address(NETWORK, addressing.GATEWAY_NUMBER).ip}",
    ]
    if site.lan6:
        batch += [f"addr add {site.wan6} dev wan nodad", f"route replace default via {gateway6().ip}"]
    return batch


def site_route_batch(site: Site) -> list[str]:
    """In the internet's namespace: add the gateway's route to a site with IPv6."""
    return [f"route replace {site.lan6} via {site.wan6.ip}"] if site.lan6 else []


def sysctl_settings(site: Site) -> list[str]:
    """Return the router's settings for sysctl(8)."""
    proxy_arp = ["net.ipv4.conf.wan.proxy_arp=1", "net.ipv4.neigh.wan.proxy_delay=0"]
    return [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        *(proxy_arp if site.nat == "none" else []),
    ]


def create_internet(prefix: str) -> None:
    """Create the internet's namespace; the caller starts its switch."""
    netns = naming.internet_netns(prefix)
    with network.new_netns(netns):
        network.ip(internet_batch(), netns)
        network.sysctl(netns, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        # The namespace's kernel must not take part in the switched traffic: no ARP reply for an address of
        # another interface, no IPv6 messages at ports that come later.
        network.sysctl(netns, "net.ipv4.conf.all.arp_ignore=1", "net.ipv6.conf.default.disable_ipv6=1")
        network.disable_checksum_offload(netns, naming.UPLINK)


def create(prefix: str, site: Site) -> None:
    """Create a site's router and connect it to the internet."""
    netns = naming.router_netns(prefix, site.name)
    with network.new_netns(netns):
        network.ip(port_batch(prefix, site), naming.internet_netns(prefix))
        network.disable_checksum_offload(netns, "wan")
        network.ip(router_batch(site), netns)
        network.sysctl(netns, *sysctl_settings(site))
        network.ip(site_route_batch(site), naming.internet_netns(prefix))
        if Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
            network.sysctl(netns, "net.bridge.bridge-nf-call-iptables=0")
        set_rules(prefix, site)


def set_rules(prefix: str, site: Site) -> None:
    """Replace the router's rules; flows in its table go on as before."""
    network.run_in(naming.router_netns(prefix, site.name), ["nft", "-f", "-"], stdin=ruleset(site))


def renumber(prefix: str, site: Site) -> None:
    """Change the router's public address to that of `site`, as a provider's new DHCP lease does."""
    network.ip(wan_batch(site), naming.router_netns(prefix, site.name))
    network.ip(site_route_batch(site), naming.internet_netns(prefix))
    set_rules(prefix, site)


def forget(prefix: str, site: Site) -> None:
    """Remove all mappings at once, as a restart of the router does."""
    network.run_in(naming.router_netns(prefix, site.name), ["conntrack", "--flush"])
