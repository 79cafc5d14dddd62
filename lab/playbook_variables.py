# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the collection's playbooks, with the lab's values.

No other part of the lab depends on the product.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Any

ZONES = {"zone-red": "Tenancy Zone Red", "zone-blue": "Tenancy Zone Blue"}
POOL = "10.20.0.0/20"


def variables(root: Path) -> dict[str, Any]:
    """Return new passwords, a lock key, the two default zones, and the wheels of the checkout at `root`."""
    return {
        "jaywalk_controller_password": secrets.token_urlsafe(32),
        "jaywalk_lock_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "jaywalk_zones": [
            {
                "name": name,
                "cidr": POOL,
                "description": description,
                "agent_password": secrets.token_urlsafe(32),
            }
            for name, description in ZONES.items()
        ],
        "jaywalk_wheelhouse": str(root / "build" / "wheelhouse"),
    }
