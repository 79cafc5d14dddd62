# SPDX-License-Identifier: GPL-3.0-or-later
"""The views that read: peers, zones and leases in the shapes that the original's clients use."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify
from netaddr import IPAddress
from werkzeug.exceptions import NotFound

from jaywalk.core import key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.models import Peer

from ..admin.zone_view_models import zone_detail
from ..admin.zones import check_known
from ..state.zone_state import ZoneState
from .auth import need, visible
from .replica import Replica


def add_views(app: Flask, replica: Replica) -> None:
    """Adds the views over ``replica``."""
    _add_peers(app, replica)
    _add_zones(app, replica)


def _add_peers(app: Flask, replica: Replica) -> None:
    @app.get("/peers")
    def list_peers() -> Response:
        with replica.zones(with_last_seen=True) as zones:
            return jsonify(
                [
                    _peer(peer, state)
                    for name, state in zones.items()
                    if visible(name)
                    for peer in state.peers.values()
                ]
            )

    @app.get("/peers/<key:text>")
    def get_peer(text: str) -> Response:
        with replica.zones(with_last_seen=True) as zones:
            try:
                key = key_format.from_url_form(text)
            except InvalidValue:
                raise NotFound("peer not found") from None
            for name, state in zones.items():
                if key in state.peers and visible(name):
                    return jsonify(_peer(state.peers[key], state))
        raise NotFound("peer not found")


def _add_zones(app: Flask, replica: Replica) -> None:
    @app.get("/zones")
    def list_zones() -> Response:
        with replica.zones() as zones:
            return jsonify([_zone(state) for name, state in zones.items() if visible(name)])

    @app.get("/zones/<name>")
    def get_zone(name: str) -> Response:
        """Returns the output of ``jaywalk-supervisor zone show --json``."""
        need("read", name)
        with replica.zones(with_last_seen=True) as zones:
            check_known(zones, name)
            return jsonify(zone_detail(zones[name], replica.now()))

    @app.get("/ipam/leases/<name>")
    def list_leases(name: str) -> Response:
        need("read", name)
        with replica.zones() as zones:
            if name not in zones:
                raise NotFound("zone not found")
            return jsonify(_pools(zones[name]))


def _peer(peer: Peer, state: ZoneState) -> dict[str, str]:
    """Returns the original's fields first; several values of a field stand in one text."""
    last_seen = state.last_seen_at.get(peer.key)
    return {
        "PublicKey": peer.key,
        "EndpointIP": peer.observed or peer.endpoint,
        "AllowedIPs": ", ".join(peer.allowed_ips),
        "Zone": state.zone.name,
        "NodeAddress": ", ".join(peer.addresses),
        "ChildPrefix": ", ".join(peer.prefixes),
        "Name": peer.name,
        "LastSeen": validation.iso_time(last_seen) if last_seen else "",
    }


def _zone(state: ZoneState) -> dict[str, str]:
    zone = state.zone
    return {"Name": zone.name, "Description": zone.description, "IpCidr": ", ".join(zone.pools)}


def _pools(state: ZoneState) -> list[dict[str, Any]]:
    """Returns each pool with the addresses that no new peer can get: leased ones, and the network's own."""
    return [
        {
            "Cidr": pool.cidr,
            "IPs": {
                str(IPAddress(number, pool.version)): True
                for number in sorted(pool.network_addresses | pool.owners.keys())
            },
        }
        for pool in state.pools
    ]
