# SPDX-License-Identifier: GPL-3.0-or-later
"""The last valid copy of the zone on disk, with which a node comes up without its controller."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from jaywalk.core import files
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import remove, write_private
from jaywalk.core.ownership import read_shared
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.trust.lock import Lock
from jaywalk.zone.events import MAX_WAIT_MS
from jaywalk.zone.marks import Head, readable
from jaywalk.zone.models import Zone
from jaywalk.zone.view import Retained, ZoneView, locked_zone

from ..config import AgentConfig
from .lock_memory import open_lock

log = logging.getLogger(__name__)

# At most a twentieth of the time goes into snapshots.
SAVE_TIME_RATIO = 20
# Rejected records whose reasons a snapshot holds, for the commands.
MAX_REJECTED = 200


class SnapshotWriter:
    """Writes the zone that is in force to the disk, in a storm of events only now and then."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._saved: Head | None = None
        self._file: files.Identity | None = None
        self._save_after = 0.0
        self._repeats = RepeatFilter()

    def save(self, view: ZoneView, *, full: bool) -> None:
        """Writes ``view`` if it changed, or if somebody removed or replaced the file.

        ``full``: at a full check, which follows each storm, and at which nothing is put off.
        """
        started = time.monotonic()
        if not full and started < self._save_after:
            return
        if self._saved == view.head and files.identity(self._config.snapshot_file) == self._file:
            return
        try:
            keep(self._config, view)
            self._saved = view.head
            self._file = files.identity(self._config.snapshot_file)
        except JaywalkError as error:
            for sentence in self._repeats.news([f"the snapshot stays as it was: {error}"], started):
                log.warning("%s", sentence)
        ended = time.monotonic()
        self._save_after = ended + SAVE_TIME_RATIO * (ended - started)


def save(path: Path, view: ZoneView) -> None:
    """Writes the zone to ``path`` (0600); raises ``JaywalkError`` if the disk fails or is full."""
    document = {
        "zone": view.zone.name,
        "meta": view.zone.to_wire(),
        "epoch": view.epoch,
        "rev": view.rev,
        "wait_ms": view.wait_ms,
        "history": view.history,
        "marks": [[*position, mark] for position, mark in view.marks.items()],
        "retained": view.retained,
        "peers": {key: peer.to_wire() for key, peer in view.peers.items()},
    }
    if view.rejected:
        document["rejected"] = dict(sorted(view.rejected.items())[:MAX_REJECTED])
    write_private(str(path), json.dumps(document, separators=(",", ":")) + "\n")


def keep(config: AgentConfig, view: ZoneView) -> None:
    """Writes the zone to the disk; if that fails, writes it to memory (``/run``) and raises ``JaywalkError``.

    So commands have the same copy as the running agent even if the disk is full.
    """
    try:
        save(config.snapshot_file, view)
    except JaywalkError:
        save(config.volatile_snapshot_file, view)
        raise
    forget(config.volatile_snapshot_file)


def current(config: AgentConfig, lock: Lock | None = None) -> ZoneView | None:
    """The agent's last copy of the zone: from memory if the disk was full, else from the disk.

    ``lock`` is that of the agent, which else is made of the configuration.
    """
    lock = lock or open_lock(config)
    volatile = load(config.volatile_snapshot_file, config.zone, lock)
    return volatile if volatile is not None else load(config.snapshot_file, config.zone, lock)


def forget(*paths: Path) -> None:
    """Removes snapshots, from which a former member must not come up; raises ``JaywalkError``."""
    remove(*paths)


def load(path: Path, zone: str, lock: Lock | None = None) -> ZoneView | None:
    """The zone as it was last written; None if the file is missing, invalid or of another zone.

    Under a lock also None if the file was written before the lock was in force and lacks statements: the
    interface then stays as it is until the controller answers.
    """
    try:
        document = json.loads(read_shared(str(path)))
        if document["zone"] != zone:
            raise InvalidValue(f"{path} is of zone {document['zone']}")
        view = ZoneView(
            locked_zone(Zone.from_wire(zone, document["meta"]), lock),
            int(document["epoch"]),
            int(document["rev"]),
            wait_ms=min(max(int(document["wait_ms"]), 0), MAX_WAIT_MS),
            history=tuple((int(epoch), int(rev)) for epoch, rev in document.get("history", ())),
            marks={(int(epoch), int(rev)): readable(mark) for epoch, rev, mark in document.get("marks", ())},
            lock=lock,
        )
        for key, record in document["peers"].items():
            view.put(key, record)
        if lock is not None and lock.is_new and view.rejected:
            log.info("%s lacks what the lock key of zone %s signed: reading the zone first", path, zone)
            return None
        # Records in the zone that were not taken before may be covered under keys that were pinned since.
        view.incomplete = lock is not None and (lock.is_new or bool(view.rejected))
        view.rejected = {**document.get("rejected", {}), **view.rejected}
        for key, (epoch, since) in document.get("retained", {}).items():
            if key in view.peers:
                view.retained[key] = Retained(int(epoch), float(since))
    except FileNotFoundError:
        return None
    except Exception as error:
        # A snapshot only saves a request to the controller: no error in it may end an agent.
        log.warning("ignored the invalid snapshot %s: %s", path, error)
        return None
    return view
