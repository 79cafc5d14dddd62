# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of the installation at which no member's endpoint lies, as this machine knows them."""

from __future__ import annotations

import ipaddress

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.mesh.local_addresses import host_prefixes
from jaywalk.wireguard.linux import Linux

from ..decisions.authority import Installation


def installation_of(where: ControllerAddress) -> Installation:
    """Returns the controller's addresses and the broadcast addresses of this machine's networks.

    A controller on loopback is this machine.  What cannot be found out is left out.
    """
    own = [ipaddress.ip_interface(text) for text in _own_networks()]
    named = {prefix.partition("/")[0] for host in where.hosts for prefix in host_prefixes(host)}
    controller = named or {str(interface.ip) for interface in own}
    broadcast = {
        str(interface.network.broadcast_address)
        for interface in own
        if interface.version == 4 and interface.network.prefixlen < 31
    }
    return Installation(frozenset(controller), frozenset(broadcast))


def _own_networks() -> list[str]:
    try:
        return Linux(SubprocessRunner()).local_networks(without="")
    except JaywalkError:
        return []
