# SPDX-License-Identifier: GPL-3.0-or-later
"""The last good state of the zone on disk, so that a mesh comes up with nobody to ask."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from jaywalk.errors import InvalidValue
from jaywalk.files import write_private
from jaywalk.models import Zone
from jaywalk.zonelog import ZoneView

log = logging.getLogger(__name__)


def save(path: Path, view: ZoneView) -> None:
    """Writes the zone to ``path`` (0600); raises ``JaywalkError`` where the disk does not take it."""
    document = {
        "zone": view.zone.name,
        "meta": view.zone.to_wire(),
        "epoch": view.epoch,
        "rev": view.rev,
        "wait_ms": view.wait_ms,
        "peers": {key: peer.to_wire() for key, peer in view.peers.items()},
    }
    write_private(str(path), json.dumps(document, separators=(",", ":")) + "\n")


def load(path: Path, zone: str) -> ZoneView | None:
    """The zone as it was last written, or None where there is none or it cannot be believed."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["zone"] != zone:
            raise InvalidValue(f"{path} is of zone {document['zone']}")
        view = ZoneView(
            Zone.from_wire(zone, document["meta"]),
            int(document["epoch"]),
            int(document["rev"]),
            wait_ms=int(document["wait_ms"]),
        )
        for key, record in document["peers"].items():
            view.put(key, record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidValue) as error:
        log.warning("the snapshot %s is not usable and is left aside: %s", path, error)
        return None
    return view
