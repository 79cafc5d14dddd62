# SPDX-License-Identifier: GPL-3.0-or-later
"""The view of the audit, for administrators."""

from __future__ import annotations

from collections import deque

from flask import Flask, Response, jsonify

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue

from ..admin import audit
from ..admin.audit import since_time
from .auth import need
from .replica import Replica
from .writes import arguments, open_store

MAX_RECORDS = 10_000
DEFAULT_RECORDS = 1000


def add_view(app: Flask, replica: Replica) -> None:
    """Adds the view over the Redis of ``replica``."""

    @app.get("/audit")
    def list_audit() -> Response:
        """Returns the newest records; the oldest of them first."""
        given = arguments("zone", "since", "limit")
        zone = validation.zone_name(given["zone"]) if "zone" in given else ""
        need("admin", zone)
        limit = _limit(given.get("limit", str(DEFAULT_RECORDS)))
        with open_store(replica.where) as store:
            since = since_time(given["since"], store.time(zone)) if "since" in given else 0.0
            newest = deque(audit.read(store, zone, since), maxlen=limit)
        return jsonify([record.to_json() for record in newest])


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_RECORDS:
        return int(text)
    raise InvalidValue(f"limit is {validation.shown(text)}", f"give 1 to {MAX_RECORDS}")
