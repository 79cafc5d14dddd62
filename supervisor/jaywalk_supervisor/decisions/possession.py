# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests need a proof that their sender holds the private key of the node."""

from __future__ import annotations

from jaywalk.core.errors import RequestRefused
from jaywalk.zone.requests import OPERATOR_OPS, Request

from ..state.zone_state import ZoneState


def lacks_proof(state: ZoneState, request: Request) -> bool:
    """Whether ``request`` needs a proof of its key and has none.

    In a zone that accepts requests without one, a key that has proven once needs it all the same: otherwise
    anybody who has the zone's password could act for that node.  Redis decides who is an operator.
    """
    if request.proven or request.op in OPERATOR_OPS:
        return False
    lease, floor = state.leases.get(request.key), state.floors.get(request.key)
    has_proven = (lease is not None and lease.proven) or (floor is not None and floor.proven)
    return state.zone.policy.proof == "required" or has_proven


def check_possession(state: ZoneState, request: Request) -> None:
    """Refuses a request that :func:`lacks_proof`."""
    if lacks_proof(state, request):
        raise RequestRefused(
            "unproven",
            f"the {request.op} of {request.key} does not prove that its sender holds that key, and zone "
            f"{state.zone.name} requires it: update jaywalk on that node, with the Python library "
            "cryptography (Debian: python3-cryptography)",
        )
