# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``audit`` of ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from typing import Any

from jaywalk.core import validation

from ..admin import audit
from ..admin.audit import AuditRecord
from ..store.store import Store

FOLLOW_SECONDS = 1.0


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parser; ``common`` has the options that say where Redis is."""
    text = "show who changed which zone, lease or token, and when"
    parser = commands.add_parser("audit", parents=[common], help=text, description=text)
    parser.add_argument("--zone", default="", help="only this zone, which may be a removed one")
    parser.add_argument("--since", default="", metavar="TIME", help="2026-11-29T12:00:00Z, or an age: 2h, 7d")
    parser.add_argument("--follow", action="store_true", help="go on with each new record until stopped")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(store: Store, options: argparse.Namespace) -> int:
    """Prints the audit; returns the exit code."""
    zone = validation.zone_name(options.zone) if options.zone else ""
    since = audit.since_time(options.since, store.time(zone)) if options.since else 0.0
    if not options.follow:
        _print(audit.read(store, zone, since), options.json)
        return 0
    follower = audit.Follower(store, zone, since)
    try:
        while True:
            _print(follower.new(), options.json)
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return 0


def _print(records: Iterable[AuditRecord], as_json: bool) -> None:
    for record in records:
        print(json.dumps(record.to_json()) if as_json else record.to_line(), flush=True)
