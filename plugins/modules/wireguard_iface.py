#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: wireguard_iface
short_description: Declare a WireGuard interface with its peers and routes
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Configures a WireGuard interface as declared, with its key, addresses, peers and routes, or removes it.
  - Changes only what differs. An unchanged peer loses no packet when other peers are added or removed.
  - Uses the kernel's WireGuard. If the kernel has none, it uses C(wireguard-go) or C(boringtun-cli).
  - Needs no controller. The module checks all options before it changes anything. If the kernel rejects a
    part of a change, such as an address, the module restores the interface.
  - Never changes an interface of the mesh, which an agent of this machine created or whose settings name it,
    and never uses an address or a route of it. The agent, C(jaywalk down) and
    M(jaywalking.mesh.jaywalk_join) manage these interfaces.
extends_documentation_fragment:
  - jaywalking.mesh.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: Linux
options:
  name:
    description:
      - The name of the interface, at most 15 characters.
    type: str
    required: true
  state:
    description:
      - V(present) configures the interface as declared, V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
  private_key_file:
    description:
      - The file on the node with the interface's private key, in base64 as C(wg genkey) prints it.
      - Required if O(state=present).
    type: path
  generate_key:
    description:
      - Whether to create O(private_key_file) with a new key and mode V(0600) if it does not exist.
      - If V(false), a missing file is an error.
      - A file that exists and contains no key is always an error. The module does not change it.
    type: bool
    default: true
  listen_port:
    description:
      - The UDP port to listen on, from 1 to 65535.
      - If omitted, the interface keeps its port, or the kernel chooses one.
    type: int
  addresses:
    description:
      - All addresses of the interface, each with its prefix length.
    type: list
    elements: str
    default: []
  mtu:
    description:
      - The MTU in bytes, from 1280 to 65535. If omitted, the interface keeps its MTU.
    type: int
  peers:
    description:
      - All peers of the interface. The module removes a peer that is not in the list.
    type: list
    elements: dict
    default: []
    suboptions:
      public_key:
        description:
          - The peer's public key, in base64 as C(wg pubkey) prints it.
        type: str
        required: true
      allowed_ips:
        description:
          - The prefixes that this peer may send from and receive at. No two peers can have the same prefix.
        type: list
        elements: str
        default: []
      endpoint:
        description:
          - The peer's endpoint as V(ADDRESS:PORT) or V(NAME:PORT), with an IPv6 address in brackets.
          - The module resolves a DNS name on the node. If the current endpoint is one of the name's
            addresses, the module keeps it.
          - A peer with a handshake from another endpoint in the last three minutes keeps that endpoint.
        type: str
      persistent_keepalive:
        description:
          - Seconds between keepalives, V(0) for none.
        type: int
        default: 0
  routes:
    description:
      - Prefixes to route into the interface, in addition to those of O(route_allowed_ips).
      - A prefix within a network of the interface's addresses needs no route and gets none.
      - The module removes routes into the interface that neither option declares.
    type: list
    elements: str
    default: []
  route_allowed_ips:
    description:
      - Whether to route the peers' allowed IPs into the interface, except those within the networks of its
        addresses.
      - The module fails if the machine already routes one of these prefixes another way, or if a route
        would send the tunnel's encrypted packets into the tunnel.
    type: bool
    default: true
requirements:
  - wireguard-tools and iproute2 on the node
  - wireguard-go and /dev/net/tun on a node whose kernel has no WireGuard
notes:
  - The interface does not survive a restart of the machine. Run the task again after a restart, or use the
    agent, which restores its tunnels itself.
seealso:
  - module: jaywalking.mesh.jaywalk_join
"""

EXAMPLES = r"""
- name: Configure a tunnel to one office
  jaywalking.mesh.wireguard_iface:
    name: wg-office
    private_key_file: /etc/wireguard/office.key
    listen_port: 51830
    addresses:
      - 192.168.90.1/24
    peers:
      - public_key: "{{ office_public_key }}"
        allowed_ips:
          - 192.168.90.2/32
          - 172.20.1.0/24
        endpoint: vpn.example.com:51830
        persistent_keepalive: 25
  register: office

- name: Show the public key for the other side
  ansible.builtin.debug:
    var: office.interface.public_key

- name: Remove the tunnel
  jaywalking.mesh.wireguard_iface:
    name: wg-office
    state: absent
"""

RETURN = r"""
interface:
  description:
    - The interface at the end of the run, in check mode before the run. Null if there is no interface.
  returned: success
  type: dict
  contains:
    name:
      description: The interface's name.
      type: str
      sample: wg-office
    kind:
      description: V(kernel) or V(userspace).
      type: str
      sample: kernel
    public_key:
      description: The public half of the interface's key.
      type: str
      sample: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    listen_port:
      description: The UDP port that the interface listens on.
      type: int
      sample: 51830
    addresses:
      description: The interface's addresses with their prefix lengths.
      type: list
      elements: str
      sample: [192.168.90.1/24]
    mtu:
      description: The MTU in bytes.
      type: int
      sample: 1420
    routes:
      description: The prefixes that are routed into the interface, without the networks of its addresses.
      type: list
      elements: str
      sample: [172.20.1.0/24]
    peers:
      description: The interface's peers.
      type: list
      elements: dict
      contains:
        public_key:
          description: The peer's public key.
          type: str
          sample: 7W4Yu4U2lW2f3c1aQvLT1b7vD3lXb2h0ZQbq0dZ0lUU=
        allowed_ips:
          description: The prefixes that this peer may send from and receive at.
          type: list
          elements: str
          sample: [172.20.1.0/24, 192.168.90.2/32]
        endpoint:
          description: The peer's endpoint, empty if it is unknown.
          type: str
          sample: 192.0.2.1:51830
        persistent_keepalive:
          description: Seconds between keepalives, V(0) for none.
          type: int
          sample: 25
        latest_handshake:
          description: The time of the last handshake in seconds since 1970, V(0) if there was none.
          type: int
          sample: 1790000000
commands:
  description:
    - The commands that the module ran for the change, or would run in check mode.
    - Empty if nothing differs.
  returned: success
  type: list
  elements: str
  sample: [wg set wg-office listen-port 51830]
"""

import ipaddress
import os
import re
import socket
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    ModuleResult,
    ModuleRunner,
    interface_facts,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import ip, validation
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import InvalidValue
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard import (
    keys,
    mesh_interfaces,
    plan,
    routes,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.interface import (
    Interface,
    ObservedInterface,
    WgPeer,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.linux import Linux
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.rollback import (
    restored_on_failure,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "private_key_file": {"type": "path"},
    "generate_key": {"type": "bool", "default": True, "no_log": False},
    "listen_port": {"type": "int"},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "mtu": {"type": "int"},
    "peers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "public_key": {"type": "str", "required": True, "no_log": False},
            "allowed_ips": {"type": "list", "elements": "str", "default": []},
            "endpoint": {"type": "str"},
            "persistent_keepalive": {"type": "int", "default": 0, "no_log": False},
        },
    },
    "routes": {"type": "list", "elements": "str", "default": []},
    "route_allowed_ips": {"type": "bool", "default": True},
}

DNS_NAME = re.compile(
    r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?"
)


def declared_peers(params: dict[str, Any], own_key: str) -> dict[str, WgPeer]:
    """Returns the declared peers, with unresolved DNS names; rejects duplicate keys and allowed IPs."""
    peers: dict[str, WgPeer] = {}
    claimed: dict[str, str] = {}
    for options in params["peers"]:
        name, number = split_name(options["endpoint"] or "")
        literal = "" if name else options["endpoint"] or ""
        peer = WgPeer.validated(
            options["public_key"], options["allowed_ips"], literal, options["persistent_keepalive"]
        )
        if name:
            peer = replace(peer, endpoint=f"{name}:{number}")
        if peer.key == own_key:
            raise InvalidValue(
                f"the peer {peer.key} has this interface's own key", "remove it from the peers"
            )
        if peer.key in peers:
            raise InvalidValue(f"the peer {peer.key} is declared twice", "declare it once")
        for prefix in peer.allowed_ips:
            if prefix in claimed:
                raise InvalidValue(
                    f"the peers {claimed[prefix]} and {peer.key} both claim the allowed IP {prefix}",
                    "give each prefix to one peer",
                )
            claimed[prefix] = peer.key
        peers[peer.key] = peer
    return peers


def split_name(endpoint: str) -> tuple[str, int]:
    """Returns the DNS name and port of an endpoint, or an empty name if it has an address or is empty."""
    host, colon, digits = endpoint.rpartition(":")
    if colon and DNS_NAME.fullmatch(host):
        return host, validation.port(digits, "endpoint's port")
    return "", 0


def resolved(peer: WgPeer, current: str) -> WgPeer:
    """Returns ``peer`` with an address for its DNS name: ``current`` if the name still has that address."""
    name, number = split_name(peer.endpoint)
    if not name:
        return peer
    try:
        found = socket.getaddrinfo(name, number, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise InvalidValue(
            f"the endpoint '{peer.endpoint}' of peer {peer.key} does not resolve ({error.strerror})",
            "check the name and this machine's DNS",
        ) from None
    candidates = [ip.join_endpoint(str(entry[4][0]), number) for entry in found]
    return replace(peer, endpoint=current if current in candidates else validation.endpoint(candidates[0]))


def declared(params: dict[str, Any], own_key: str) -> Interface:
    """Returns the interface of the options; raises ``InvalidValue``."""
    addresses = tuple(dict.fromkeys(validation.interface_address(address) for address in params["addresses"]))
    hosts = [ipaddress.ip_interface(address).ip for address in addresses]
    for host in hosts:
        if hosts.count(host) > 1:
            raise InvalidValue(f"the address {host} is declared with two prefix lengths", "declare it once")
    peers = declared_peers(params, own_key)
    prefixes = [validation.network(route, "route") for route in params["routes"]]
    if params["route_allowed_ips"]:
        prefixes.extend(prefix for peer in peers.values() for prefix in peer.allowed_ips)
    return Interface(
        name=validation.interface_name(params["name"]),
        public_key=own_key or f"(new key in {params['private_key_file']})",
        private_key_file=params["private_key_file"],
        listen_port=None
        if params["listen_port"] is None
        else validation.port(params["listen_port"], "listen port"),
        addresses=addresses,
        mtu=None if params["mtu"] is None else validation.mtu(params["mtu"]),
        peers=peers,
        routes=routes.needed(prefixes, addresses),
    )


def own_public_key(params: dict[str, Any], runner: ModuleRunner) -> str:
    """Returns the public key of the key file, or an empty text if the module will create the file."""
    if params["generate_key"] and not os.path.exists(params["private_key_file"]):
        return ""
    return keys.read_key_file(runner, params["private_key_file"])


def with_endpoints_and_routes(
    interface: Interface, observed: ObservedInterface | None, runner: ModuleRunner, zones: dict[str, str]
) -> Interface:
    """Returns ``interface`` with resolved endpoints; checks its routes against the machine's other routes.

    ``zones`` maps the interfaces of the mesh to their zones.
    """
    known = observed.peers if observed else {}
    peers = {
        key: resolved(peer, known[key].endpoint if key in known else "")
        for key, peer in interface.peers.items()
    }
    taken = routes.other_routes(runner, interface.name)
    mesh_interfaces.check_outside_mesh(interface.addresses, interface.routes, taken, zones)
    routes.check_not_taken(interface.routes, taken)
    routes.check_no_loops(
        interface.routes, taken, {key: peer.endpoint for key, peer in peers.items() if peer.endpoint}
    )
    return replace(interface, peers=peers)


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Parses the options, plans the change, and applies it unless in check mode."""
    params = module.params
    name = validation.interface_name(params["name"])
    present = params["state"] == "present"
    if present:
        # Reject invalid options before the module reads the machine's state.
        declared(params, "")
    zones = mesh_interfaces.zones_by_interface()
    mesh_interfaces.check_not_mesh(name, zones)
    Linux(runner).require_tools()
    interface = declared(params, own_public_key(params, runner)) if present else None
    observed = Linux(runner).observe(name)
    if interface is not None:
        interface = with_endpoints_and_routes(interface, observed, runner, zones)
    steps = plan.diff(observed, interface)
    if steps and not module.check_mode:
        if interface is not None:
            keys.ensure_key_file(runner, interface.private_key_file)
        with restored_on_failure(runner, observed if present else None):
            Linux(runner).apply(steps)
        observed = Linux(runner).observe(name)
    facts = {"interface": interface_facts(observed), "commands": Linux(runner).commands(steps)}
    return ModuleResult(bool(steps), steps.diff(), facts)


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work, required_if=[("state", "present", ("private_key_file",))])


if __name__ == "__main__":
    main()
