# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from lab import router
from lab.topology import Site

WAN = "203.0.113.100"


def rules(**options: object) -> list[str]:
    site = Site("home", WAN, **options)  # type: ignore[arg-type]
    return [line.strip() for line in router.ruleset(site).splitlines()]


def test_a_cone_keeps_a_sources_port_and_a_symmetric_nat_changes_it() -> None:
    assert 'oifname "wan" ip saddr 192.168.1.0/24 masquerade' in rules(nat="cone")
    assert 'oifname "wan" ip saddr 192.168.1.0/24 masquerade fully-random' in rules(nat="symmetric")


def test_every_site_accepts_replies_and_nothing_else() -> None:
    for nat in ("cone", "symmetric", "none"):
        lines = rules(nat=nat)
        assert lines.count("ct state established,related accept") == 2
        assert 'iifname "wan" drop' in lines
        assert "type filter hook forward priority filter; policy drop" in lines


def test_without_nat_no_address_is_changed() -> None:
    assert not [line for line in rules(nat="none") if "nat" in line.replace("dnat accept", "")]


def test_forwarded_ports_go_to_the_machines_in_their_order() -> None:
    lines = rules(forward=(51820, 51821))
    assert 'iifname "wan" udp dport 51820 dnat ip to 192.168.1.10' in lines
    assert 'iifname "wan" udp dport 51821 dnat ip to 192.168.1.11' in lines
    assert not [line for line in lines if 'iifname "lan" ip daddr' in line]


def test_a_hairpin_changes_only_the_source_of_the_sites_own_machines() -> None:
    """Packets from outside must keep their source: a peer's observed address is its endpoint."""
    lines = rules(forward=(51820,), hairpin=True)
    assert f'iifname "lan" ip daddr {WAN} udp dport 51820 dnat ip to 192.168.1.10' in lines
    assert f'oifname "lan" ip saddr 192.168.1.0/24 ct status dnat snat ip to {WAN}' in lines


def test_new_rules_replace_the_old_ones_in_one_transaction() -> None:
    assert rules()[:3] == ["table inet site", "delete table inet site", "table inet site {"]


def test_a_router_has_both_addresses_and_a_default_route() -> None:
    batch = router.router_batch(Site("home", WAN))
    assert "addr add 192.168.1.1/24 dev lan" in batch
    assert batch[-4:] == [
        "addr flush dev wan",
        f"addr add {WAN}/24 dev wan",
        "link set wan up",
        "route replace default via 203.0.113.1",
    ]


def test_only_a_router_without_nat_answers_arp_for_the_machines_behind_it() -> None:
    assert not [setting for setting in router.sysctl_settings(Site("home", WAN)) if "proxy" in setting]
    assert "net.ipv4.conf.wan.proxy_arp=1" in router.sysctl_settings(Site("home", WAN, nat="none"))


def test_a_site_with_ipv6_is_routed_behind_its_firewall() -> None:
    dual = Site("home", WAN, lan6="2001:db8:1::/64")
    assert "addr add 2001:db8:1::1/64 dev lan nodad" in router.router_batch(dual)
    assert router.wan_batch(dual)[-2:] == [
        "addr add 2001:db8::64/64 dev wan nodad",
        "route replace default via 2001:db8::1",
    ]
    assert router.site_route_batch(dual) == ["route replace 2001:db8:1::/64 via 2001:db8::64"]
    assert router.site_route_batch(Site("home", WAN)) == []
    assert not [line for line in router.ruleset(dual).splitlines() if "2001:" in line], "no NAT for IPv6"


def test_a_routers_port_is_on_the_internet() -> None:
    assert router.port_batch("jw", Site("home", WAN)) == [
        "link add w-home type veth peer name wan netns jw_r-home",
        "link set w-home up",
    ]
