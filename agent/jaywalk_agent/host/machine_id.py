# SPDX-License-Identifier: GPL-3.0-or-later
"""A mark of this machine, by which the zone tells it from another one that has the same key.

The state folder holds a random number beside what the machine was like.  A disk that was copied brings both
along; where the machine is another one by now, the number is drawn anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private

log = logging.getLogger(__name__)

Traits = Mapping[str, list[str]]
"""What tells a machine from others, by kind, hashed: some of it is confidential."""

ROOT = Path("/")
SINGLE = {
    "uuid": "sys/class/dmi/id/product_uuid",
    "serial": "sys/firmware/devicetree/base/serial-number",
    "machine-id": "etc/machine-id",
}
"""What a machine has one of: of its board, of a board without DMI, of the installed system."""
BOARD = ("uuid", "serial")
CONTAINER = ("run/systemd/container", "run/.containerenv", ".dockerenv")
"""Files that a container has: its board is another's, and it may be moved to a third one."""
NOBODYS = ("0" * 32, "f" * 32, "0300020004000500000600070008" + "0009", "uninitialized")
"""What boards and images hold that were given nothing of their own, without hyphens."""
PERMANENT = "0"
"""In addr_assign_type (sysfs-class-net): the address that the card came with, not one drawn at each start."""
SET = "3"
"""The same: somebody gave it, as who makes a container gives the end of its cable."""


def own_machine_id(folder: Path) -> str:
    """8 hex digits: the same after a restart, a reboot and a new network card, others on another machine.

    Where the disk takes nothing, they hold for this run.
    """
    path, traits = folder / "instance", observe_traits(ROOT)
    number, known = _stored(path)
    if number and not is_same_machine(known, traits):
        log.warning(
            "%s comes from another machine: this one is a copy of it; if both run, give this one its own key",
            path,
        )
        number = ""
    fresh = number or secrets.token_hex(16)
    # A part that is not to be seen at the moment, such as a card that is not plugged in, is not forgotten.
    kept = {**known, **traits} if number else dict(traits)
    if (fresh, kept) != (number, known):
        try:
            write_private(str(path), json.dumps({"number": fresh, "traits": kept}) + "\n")
        except JaywalkError as error:
            log.warning("the mark of this machine is for this run only: %s", error)
    return hashlib.sha256(fresh.encode()).hexdigest()[:8]


def is_same_machine(known: Traits, now: Traits) -> bool:
    """Whether a machine that was like ``known`` may be like ``now``.

    Another UUID, serial number or machine-id is another machine.  Network cards are changed: other ones alone
    tell another machine only where its board has nothing that tells it is the same.
    """
    both = [kind for kind in SINGLE if known.get(kind) and now.get(kind)]
    if any(known[kind] != now[kind] for kind in both):
        return False
    if any(kind in BOARD for kind in both) or not known.get("links") or not now.get("links"):
        return True
    return not set(known["links"]).isdisjoint(now["links"])


def observe_traits(root: Path) -> dict[str, list[str]]:
    """What tells this machine from others; kinds that it lacks, or that nobody filled in, are left out."""
    contained = any((root / mark).exists() for mark in CONTAINER)
    kinds = [kind for kind in SINGLE if not (contained and kind in BOARD)]
    found = {kind: [text] for kind in kinds if (text := _own_text(root / SINGLE[kind]))}
    links = _physical_links(root / "sys/class/net") or _given_links(root / "sys/class/net")
    if links:
        found["links"] = links
    return {kind: sorted(_hashed(kind, text) for text in texts) for kind, texts in found.items()}


def _own_text(path: Path) -> str:
    text = _text(path).strip("\0 \n").lower()
    return "" if text.replace("-", "") in NOBODYS else text


def _physical_links(folder: Path) -> list[str]:
    """The addresses of network cards, as they were made."""
    links = [link for link in _links(folder) if (link / "device").exists()]
    return [_text(link / "address") for link in links if _text(link / "addr_assign_type") == PERMANENT]


def _given_links(folder: Path) -> list[str]:
    """In a container: the addresses of the ends of cables, where whoever made it gave them."""
    links = [link for link in _links(folder) if _text(link / "iflink") != _text(link / "ifindex")]
    return [_text(link / "address") for link in links if _text(link / "addr_assign_type") == SET]


def _links(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _hashed(kind: str, text: str) -> str:
    return hashlib.sha256(f"jaywalk {kind} {text}".encode()).hexdigest()[:16]


def _stored(path: Path) -> tuple[str, dict[str, list[str]]]:
    """The number and the traits that are on disk; empty where there are none to be believed."""
    try:
        document = json.loads(path.read_text(encoding="ascii"))
        number, traits = document["number"], document["traits"]
        return str(number), {str(kind): [str(each) for each in texts] for kind, texts in traits.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "", {}
