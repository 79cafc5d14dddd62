#!/usr/bin/python
# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: jaywalk_join
short_description: Join a node to a zone of the mesh, or remove it from the zone
version_added: 0.1.0
author:
  - Jaywalking maintainers (@jaywalking)
description:
  - Joins the node on which it runs to a zone, in one call. It creates the node's key, requests a lease from
    the zone, and configures the WireGuard interface with all peers of the zone and the routes to their child
    prefixes.
  - With O(state=absent) it removes the node from its zone, and removes the interface. The zone keeps the
    node's addresses for its return.
  - Each further run updates the interface to the current state of the zone.
  - The module checks all options before it requests or changes anything. If the controller or the supervisor
    is unreachable, or the zone refuses the request, the module fails and leaves the interface unchanged.
extends_documentation_fragment:
  - jaywalking.mesh.controller
  - jaywalking.mesh.attributes
  - jaywalking.mesh.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Reads the zone and sends no request. The diff shows an address that the zone will choose as assigned
        by the zone, both in check mode and in the run itself.
      - In a zone that requires proofs, a node that has not joined yet may not read the peers. The diff of
        check mode then lacks them and the routes to them.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: Linux
options:
  controller_user:
    description:
      - The Redis user for the connection. The default is V(agent-ZONE), which has access to this zone only.
  state:
    description:
      - V(present) makes the node a peer of the zone, V(absent) removes it from the zone.
    type: str
    choices: [present, absent]
    default: present
  interface:
    description:
      - The name of the WireGuard interface. The module never changes an interface that uses another key.
    type: str
    default: wg0
  private_key_file:
    description:
      - The file with the node's private key. The module creates it with mode V(0600) if it does not exist.
      - The key is the node's identity in the zone. The file stays when a join fails and when the node leaves.
      - The default is V(/etc/jaywalk/ZONE.key), the file that the agent uses.
    type: path
  listen_port:
    description:
      - The UDP port of the interface, from 1 to 65535.
    type: int
    default: 51820
  name:
    description:
      - The node's name in the zone, a DNS label. The default for a new node is the first label of its host
        name.
    type: str
  request_ip:
    description:
      - The addresses that the node requests, at most one IPv4 and one IPv6 address.
      - If omitted, the node keeps the address it has or had, or gets the next free one.
      - An address of another node moves to this node if the zone's takeover policy allows it, and the other
        node gets a new one. If that depends on when the other node was last seen (V(stale)), check mode
        assumes that it is stale. An address that an operator reserved for another node never moves.
    type: list
    elements: str
    default: []
  child_prefixes:
    description:
      - All networks behind this node that its peers reach through it, in addition to those that an operator
        reserved for it. The node releases a network that is not in the list; an empty list releases all.
      - The module only announces the networks. The agent's C(--forward) makes the machine forward, because
        its firewall rules (next to those of other programs, such as Docker) need continuous maintenance.
    type: list
    elements: str
  endpoint:
    description:
      - The endpoint at which peers reach the node, as V(ADDRESS), V(NAME), V(ADDRESS:PORT), V([IPV6]:PORT) or
        V(NAME:PORT). The default port is O(listen_port). The module resolves a name once, when it runs.
      - The default is the endpoint that the node's agent declared (C(--local-endpoint-ip)), else the source
        address of the node's connections to the controller. An empty string always selects the latter.
    type: str
  netns:
    description:
      - The network namespace of the interface. It must exist. The interface's encrypted packets stay outside.
        With it a node can be in two zones whose pools overlap.
    type: str
  join_token:
    description:
      - The join token of a node that is new to a zone which wants one, as M(jaywalking.mesh.jaywalk_token)
        makes it. A node of the zone needs none.
    type: str
  supervisor_keys:
    description:
      - The public keys of the supervisors, as C(jaywalk-supervisor key) prints them, newest first. The node
        proves its requests to their holders, and believes no one else's answers.
      - By default the module trusts the keys that the zone publishes when it first runs. It remembers them in
        a file beside O(private_key_file), C(ZONE.supervisor-keys), and trusts no others later.
    type: list
    elements: str
    default: []
requirements:
  - wireguard-tools and iproute2 on the node
  - the Python library cryptography (Debian python3-cryptography), with which the node proves its requests
  - wireguard-go and /dev/net/tun on a node whose kernel has no WireGuard
notes:
  - The module checks no signatures of a mesh lock and takes all peers that the zone lists. Where a lock is to
    hold, run the agent.
  - The interface shows the zone at the time of the run. The agent applies later changes of the zone, and
    restores the tunnels after a restart of the machine. Module and agent compute the same interface for the
    same key, so an agent on the same zone and interface does not conflict with the module.
  - For a node that is in the zone already, the zone keeps the values of O(name), O(request_ip),
    O(child_prefixes) and O(endpoint) if they are omitted, including those that an agent requested, and it
    keeps the relay setting. An agent requests all its own settings at each start, so give agent and module
    the same settings, and stop the agent before O(state=absent).
  - A relay needs an agent, since it must add each new peer and answer the peers' connectivity checks.
seealso:
  - module: jaywalking.mesh.jaywalk_lease
  - module: jaywalking.mesh.jaywalk_token
  - module: jaywalking.mesh.wireguard_iface
"""

EXAMPLES = r"""
- name: Set controller and zone once for several tasks, or in the same way for a play
  module_defaults:
    group/jaywalking.mesh.jaywalk:
      controller: 192.0.2.10
      controller_password_file: /etc/jaywalk/zone-blue.password
      zone: zone-blue
  block:
    - name: Join with the next free address
      jaywalking.mesh.jaywalk_join:
      register: joined

    - name: Ping another node through the tunnel
      ansible.builtin.command:
        cmd: ping -c 1 {{ hostvars['node2'].joined.lease.addresses | first }}
      changed_when: false

- name: Join with a requested address, and announce the network behind the node
  jaywalking.mesh.jaywalk_join:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_agent_password }}"
    zone: zone-blue
    request_ip: [10.20.0.30]
    child_prefixes: [172.20.1.0/24]

- name: Leave the zone
  jaywalking.mesh.jaywalk_join:
    controller: 192.0.2.10
    controller_password: "{{ jaywalk_agent_password }}"
    zone: zone-blue
    state: absent
"""

RETURN = r"""
lease:
  description:
    - The node's record in the zone. Null after RV(ignore:state=absent).
    - Check mode omits the addresses that the zone will choose.
  returned: success
  type: dict
  contains:
    zone:
      description: The zone's name.
      type: str
      sample: zone-blue
    public_key:
      description: The node's public key, empty in check mode if there is no key yet.
      type: str
      sample: IHTAKJ7xQYBmO7lh3NrNPrfv0LAAM8GlD1o1Yh0U4hE=
    name:
      description: The node's name in the zone.
      type: str
      sample: node1
    addresses:
      description: The node's addresses in the mesh.
      type: list
      elements: str
      sample: [10.20.0.30]
    child_prefixes:
      description: The networks behind the node.
      type: list
      elements: str
      sample: [172.20.1.0/24]
    endpoint:
      description: The endpoint at which peers reach the node, empty if it is unknown.
      type: str
      sample: 192.0.2.1:51820
interface:
  description:
    - The interface at the end of the run, in check mode before the run. Null if there is no interface.
  returned: success
  type: dict
  contains:
    name:
      description: The interface's name.
      type: str
      sample: wg0
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
      sample: 51820
    addresses:
      description: The interface's addresses with their prefix lengths.
      type: list
      elements: str
      sample: [10.20.0.30/20]
    mtu:
      description: The MTU in bytes.
      type: int
      sample: 1420
    routes:
      description: The prefixes that are routed into the interface, without the networks of its addresses.
      type: list
      elements: str
      sample: [172.20.2.0/24]
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
          sample: [10.20.0.31/32, 172.20.2.0/24]
        endpoint:
          description: The peer's endpoint, empty if it is unknown.
          type: str
          sample: 192.0.2.2:51820
        persistent_keepalive:
          description: Seconds between keepalives, V(0) for none.
          type: int
          sample: 25
        latest_handshake:
          description: The time of the last handshake in seconds since 1970, V(0) if there was none.
          type: int
          sample: 1790000000
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.jaywalking.mesh.plugins.module_utils._module import (
    CONTROLLER_CONSTRAINTS,
    ModuleResult,
    ModuleRunner,
    changed_lines,
    controller_address,
    controller_arguments,
    interface_facts,
    require_redis,
    run,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.address import agent_user
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.client import ZoneClient
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.login import NodeLogin
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.controller.prover import Prover
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core import ip, validation
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.errors import (
    ControllerDenied,
    InvalidValue,
    JaywalkError,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.core.runner import Runner, in_namespace
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.mesh import (
    endpoints,
    local_addresses,
    node_interface,
    preview,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.mesh.node_interface import LocalNode
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.trust.supervisor_keys import (
    TrustedKeys,
    parse_keys,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard import (
    keys,
    mesh_interfaces,
    mtu,
    plan,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.backend import raise_fatal
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.interface import (
    Interface,
    ObservedInterface,
)
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard.linux import Linux
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.join_tokens import checked_text
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.models import Peer
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.requests import Request
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.reservations import merge_prefixes
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.zone.view import ZoneView

ARGUMENT_SPEC: dict[str, Any] = {
    **controller_arguments(),
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "interface": {"type": "str", "default": "wg0"},
    "private_key_file": {"type": "path"},
    "listen_port": {"type": "int", "default": 51820},
    "name": {"type": "str"},
    "request_ip": {"type": "list", "elements": "str", "default": []},
    "child_prefixes": {"type": "list", "elements": "str"},
    "endpoint": {"type": "str"},
    "netns": {"type": "str"},
    "join_token": {"type": "str", "no_log": True},
    "supervisor_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
}
CLIENT_NAME = "jaywalk-ansible"


@dataclass(frozen=True)
class JoinContext:
    """This node's observed state and its request to the zone.

    ``new_key`` says that the node has no key yet.  ``no_ipv6`` is the reason why its interface can have no
    IPv6, empty if it can.  ``trusted`` are the supervisors' keys that the node trusts, and ``login`` opens
    its connections.
    """

    runner: Runner
    login: NodeLogin
    client: ZoneClient
    node: LocalNode
    new_key: bool
    observed: ObservedInterface | None
    request: Request
    trusted: TrustedKeys
    no_ipv6: str = ""

    def line_prefix(self) -> str:
        """Returns the first words of the node's lines in a diff."""
        return f"zone {self.client.zone}"

    def own_record(self, view: ZoneView) -> Peer | None:
        """Returns the node's own record in the zone, or None."""
        return view.peers.get(self.request.key)


def declared_endpoint(text: str, listen_port: int) -> str:
    """Returns the declared endpoint, with ``listen_port`` as its default port; raises ``InvalidValue``."""
    declared = local_addresses.DeclaredEndpoint.parse(text, listen_port)
    found = declared.endpoint()
    if not found:
        raise InvalidValue(
            f"the name {declared.host} of the endpoint has no address that peers can reach",
            "give an address, or correct the name",
        )
    return validation.endpoint(found)


def declared_request(params: dict[str, Any], controller_host: str, key: str) -> Request:
    """Returns the request that the options describe; raises ``InvalidValue``."""
    port = validation.port(params["listen_port"], "listen port")
    declared = declared_endpoint(params["endpoint"], port) if params["endpoint"] else ""
    return Request.validated(
        "join" if params["state"] == "present" else "leave",
        params["zone"],
        key,
        name=params["name"] or local_addresses.host_label(),
        request_ip=params["request_ip"],
        child_prefixes=params["child_prefixes"] or (),
        join_token=checked_text(params["join_token"]) if params["join_token"] else "",
        **local_addresses.endpoint_fields(controller_host, port, declared),
    )


def with_omitted_options(request: Request, params: dict[str, Any], own: Peer | None) -> Request:
    """Returns ``request`` with the values of the node's own record for omitted options."""
    if own is None:
        return request
    omitted: dict[str, Any] = {"relay": own.relay}
    if params["name"] is None:
        omitted["name"] = own.requested_name or own.name
    if params["child_prefixes"] is None:
        omitted["child_prefixes"] = own.prefixes
    if params["endpoint"] is None and own.fixed:
        omitted.update(endpoint=own.endpoint, fixed=True, local=own.local)
    return replace(request, **omitted)


def observe(module: AnsibleModule, outside: ModuleRunner) -> JoinContext:
    """Checks options, tools, key and interface, and connects to the controller, in this order."""
    params = module.params
    runner = in_namespace(outside, validation.netns_name(params["netns"]) if params["netns"] else "")
    zone = validation.zone_name(params["zone"])
    name = validation.interface_name(params["interface"])
    path = params["private_key_file"] or f"/etc/jaywalk/{zone}.key"
    where = controller_address(params, agent_user(zone))
    Linux(runner).require_tools()
    new_key = not os.path.exists(path)
    # While the node has no key, the checks use a temporary one, which is never written.
    key = keys.derive(runner, keys.generate(runner)) if new_key else keys.read_key_file(runner, path)
    request = declared_request(params, where.host, key)
    observed = Linux(runner).observe(name)
    if observed is not None and observed.public_key not in ("", key):
        mesh_interfaces.check_not_mesh(name, mesh_interfaces.zones_by_interface())
        raise InvalidValue(
            f"the interface {name} is in use with another key than that in {path}",
            "set another interface, or remove this one with the module jaywalking.mesh.wireguard_iface",
        )
    controller = [prefix for host in where.hosts for prefix in local_addresses.host_prefixes(host)]
    local = (*Linux(runner).local_networks(without=name), *controller)
    node = LocalNode(key, path, name, params["listen_port"], local_networks=local)
    no_ipv6 = Linux(runner).why_no_ipv6(name, observed is not None)
    pinned = parse_keys(",".join(params["supervisor_keys"]))
    trusted = TrustedKeys(zone, pinned, f"{os.path.splitext(path)[0]}.supervisor-keys")
    require_redis(module)
    where = replace(where, zone=zone)
    login = NodeLogin(zone, lambda: replace(where, user="", password=""), lambda: where)
    if trusted.keys and not new_key:
        login = replace(login, prover=Prover.of_key_file(path, trusted))
    client = login.open(CLIENT_NAME)
    return JoinContext(runner, login, client, node, new_key, observed, request, trusted, no_ipv6)


def read_zone(client: ZoneClient) -> ZoneView:
    """Returns the zone; without its peers for a node that has only the zone's password, which enrols."""
    try:
        return client.snapshot()
    except ControllerDenied:
        return client.head()


def held_lines(context: JoinContext, peer: Peer | None) -> tuple[str, ...]:
    """Returns the lines of a diff for the node's record in the zone, none if there is no record."""
    if peer is None:
        return ()
    return record_lines(context, peer, peer.addresses)


def record_lines(context: JoinContext, peer: Peer, hosts: Iterable[str]) -> tuple[str, ...]:
    """Returns the lines of a diff for a record, with ``hosts`` as its addresses.

    The relay's port is left out, since no option changes it.
    """
    lines = preview.lines(context.line_prefix(), peer.name, hosts, peer.prefixes, peer.endpoint)
    facts = [f"local-address {host}" for host in peer.local] + ["endpoint is fixed"] * peer.fixed
    return (*lines, *(f"{context.line_prefix()} {fact}" for fact in facts))


def granted_lines(context: JoinContext, view: ZoneView, known: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the lines of the record after a join, with placeholders for addresses not in ``known``."""
    peer = view.peers[context.request.key]
    hosts = preview.preview_addresses(view.zone, peer.addresses, known)
    return record_lines(context, peer, hosts)


def preview_join(context: JoinContext, view: ZoneView, known: tuple[str, ...]) -> ZoneView:
    """Returns the zone after a granted join, with the addresses of the node that are known before."""
    request = context.request
    own = context.own_record(view)
    kept, host = (own.reserved_prefixes, own.host) if own else ((), "")
    prefixes = merge_prefixes(kept, request.child_prefixes)
    others = [peer for key, peer in view.peers.items() if key != request.key]
    name = host or preview.preview_name(request.name, own, others)
    peer = Peer(request.key, name, known, prefixes, **preview.endpoint_fields(own, request))
    return replace(view, peers={**view.peers, request.key: peer})


def check_predictable(context: JoinContext, view: ZoneView, after: ZoneView, check_mode: bool) -> None:
    """Raises the refusals that the supervisor would send, as far as the zone's peers show them.

    A node cannot read the leases of nodes that left, or reservations, so the supervisor knows more: it grants
    a reserved prefix also where that covers an endpoint.  For a node without a record a run therefore leaves
    this check to the supervisor.
    """
    request, own = context.request, context.own_record(view)
    prefixes = after.peers[request.key].prefixes
    preview.check_addresses(view.zone, request.request_ip)
    preview.check_prefixes(view.zone, prefixes)
    takeover = view.zone.policy.takeover != "never"
    preview.check_not_taken(view.peers.values(), request, takeover=takeover)
    fresh = [prefix for prefix in prefixes if own is None or prefix not in own.prefixes]
    if own is not None or check_mode:
        preview.check_endpoints_outside(fresh, request, view.peers.values())


def _endpoint_hosts(view: ZoneView) -> set[str]:
    return {
        ip.host_of(endpoint)
        for peer in view.peers.values()
        for endpoint in endpoints.declared_endpoints(peer)
    }


def desired_interface(context: JoinContext, view: ZoneView) -> Interface:
    """Returns the node's interface in the zone; raises ``InvalidValue`` if the node is not in the zone."""
    versions = local_addresses.ip_versions(_endpoint_hosts(view))
    desired = node_interface.desired(view, replace(context.node, versions=versions))
    if desired is None:
        raise InvalidValue(
            f"zone {context.client.zone} granted the join but does not list this node",
            "run this again, and read the supervisor's log",
        )
    observed = context.observed
    hosts = mtu.endpoint_hosts(observed.peers if observed is not None else {}, desired.peers)
    desired = mtu.applied(
        desired, observed, Linux(context.runner).path_mtus(hosts or ip.DEFAULT_ROUTE_TARGETS)
    )
    return desired.without_ipv6() if context.no_ipv6 else desired


def shown(context: JoinContext, held: tuple[str, ...], view: ZoneView, known: tuple[str, ...]) -> plan.Plan:
    """Returns the plan from the ``held`` lines and the observed interface to ``view``, for the diff."""
    steps = changed_lines(held, granted_lines(context, view, known))
    desired = desired_interface(context, view)
    lengths = dict(address.split("/") for address in desired.addresses)
    hosts = preview.preview_addresses(view.zone, lengths, known)
    if context.no_ipv6:
        hosts = tuple(host for host in hosts if host != preview.placeholder(6))
    desired = replace(
        desired,
        addresses=tuple(f"{host}/{lengths[host]}" if host in lengths else host for host in hosts),
        public_key=f"(new key in {context.node.private_key_file})" if context.new_key else desired.public_key,
    )
    return plan.Plan(desired.name, (*steps, *plan.diff(context.observed, desired).steps))


def ask(context: JoinContext, view: ZoneView, timeout: int) -> ZoneClient:
    """Sends the node's request and waits for the grant; returns a client that may read the zone then.

    Raises ``RequestRefused`` or ``NoAnswer``.
    """
    own = context.own_record(view)
    prover = Prover.of_key_file(context.node.private_key_file, context.trusted)
    login = replace(context.login, prover=prover)
    client = login.open(CLIENT_NAME)
    # The sequence number must exceed that of the previous request even if the clock was set back.
    seq = max(context.request.seq, own.seq + 1) if own else context.request.seq
    return login.ask(client, replace(context.request, seq=seq), timeout, CLIENT_NAME)[1]


def with_own_key(context: JoinContext) -> JoinContext:
    """Returns the context with the node's own key instead of the temporary one; creates the key if needed."""
    key, created = keys.ensure_key_file(context.runner, context.node.private_key_file)
    return replace(
        context,
        node=replace(context.node, public_key=key),
        request=replace(context.request, key=key),
        new_key=created,
    )


def join(context: JoinContext, params: dict[str, Any], check_mode: bool) -> ModuleResult:
    """Joins the node with its requested settings, and configures its interface."""
    view = read_zone(context.client)
    context = replace(
        context, request=with_omitted_options(context.request, params, context.own_record(view))
    )
    known = preview.expected_addresses(context.own_record(view), context.request)
    after = preview_join(context, view, known)
    node_interface.check_no_overlap(view.zone.pools, context.node)
    held = held_lines(context, context.own_record(view))
    is_granted = not changed_lines(held, granted_lines(context, after, known))
    if not is_granted:
        check_predictable(context, view, after, check_mode)
    steps = shown(context, held, after, known)
    observed = context.observed
    if steps and not check_mode:
        context = with_own_key(context)
        after = admitted(context, view, None if is_granted else params["timeout"])
        steps = shown(context, held, after, known)
        observed = Linux(context.runner).observe(context.node.interface)
    lease = member_facts(context, after.peers[context.request.key], hide_key=context.new_key and check_mode)
    warnings = [
        *context.request.notes,
        *after.rejected.values(),
        *node_interface.refused_prefixes(after, context.node),
    ]
    if context.no_ipv6 and any(":" in pool for pool in view.zone.pools):
        warnings.append(f"the zone's IPv6 is left out of {context.node.interface}, since {context.no_ipv6}")
    return ModuleResult(
        bool(steps), steps.diff(), {"lease": lease, "interface": interface_facts(observed)}, warnings
    )


def admitted(context: JoinContext, view: ZoneView, timeout: int | None) -> ZoneView:
    """Creates the interface if needed, sends the request, and applies the answer.

    If ``timeout`` is None, no request is needed.  If the zone refuses, or no tunnel can work, an interface
    that was created here is deleted.  Other errors of this machine are raised after all other steps.
    """
    name, created = context.node.interface, context.observed is None
    if created:
        # This comes before the request: a node that cannot have the interface must not get a lease.
        Linux(context.runner).create(name)
    try:
        if timeout is not None:
            view = ask(context, view, timeout).snapshot()
        steps = plan.diff(Linux(context.runner).observe(name), desired_interface(context, view))
        failures = Linux(context.runner).attempt(steps)
        raise_fatal(failures)
    except JaywalkError:
        if created:
            Linux(context.runner).delete(name)
        raise
    if failures:
        raise failures[0].error
    return view


def leave(context: JoinContext, params: dict[str, Any], check_mode: bool) -> ModuleResult:
    """Removes the node from the zone, and then its interface."""
    view = read_zone(context.client)
    own = context.own_record(view)
    lines = changed_lines(held_lines(context, own), ())
    interface = plan.diff(context.observed, None)
    steps = plan.Plan(context.node.interface, (*lines, *interface.steps))
    observed = context.observed
    if steps and not check_mode:
        if own is not None:
            ask(context, view, params["timeout"])
        Linux(context.runner).apply(interface)
        observed = None
    lease = member_facts(context, own) if own and check_mode else None
    return ModuleResult(bool(steps), steps.diff(), {"lease": lease, "interface": interface_facts(observed)})


def member_facts(context: JoinContext, peer: Peer, hide_key: bool = False) -> dict[str, Any]:
    """Returns the node's record in the form of the module's return value."""
    return {
        "zone": context.client.zone,
        "public_key": "" if hide_key else peer.key,
        "name": peer.name,
        "addresses": list(peer.addresses),
        "child_prefixes": list(peer.prefixes),
        "endpoint": peer.endpoint,
    }


def work(module: AnsibleModule, runner: ModuleRunner) -> ModuleResult:
    """Observes the node, then joins or leaves, or predicts the changes."""
    context = observe(module, runner)
    act = join if module.params["state"] == "present" else leave
    return act(context, module.params, module.check_mode)


def main() -> None:
    """Entry point."""
    run(ARGUMENT_SPEC, work, **CONTROLLER_CONSTRAINTS)


if __name__ == "__main__":
    main()
