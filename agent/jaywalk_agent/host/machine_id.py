# SPDX-License-Identifier: GPL-3.0-or-later
"""An identifier of this machine, by which the zone distinguishes machines with the same key.

The state folder holds a random number and the traits of the machine that generated it.  A copied disk
contains both; if the traits are those of another machine, a new number is generated.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import write_private
from jaywalk.core.ownership import read_shared

log = logging.getLogger(__name__)

# Identifying properties of a machine by kind, hashed, since some of them are confidential.
Traits = Mapping[str, list[str]]

ROOT = Path("/")
# The files of traits with one value: of the board, of a board without DMI, and of the installed system.
TRAIT_FILES = {
    "uuid": "sys/class/dmi/id/product_uuid",
    "serial": "sys/firmware/devicetree/base/serial-number",
    "machine-id": "etc/machine-id",
}
BOARD_TRAITS = ("uuid", "serial")
# Files that exist in a container only. Its board is the host's, and it may move to another host.
CONTAINER_FILES = ("run/systemd/container", "run/.containerenv", ".dockerenv")
# Values, without hyphens, of boards and images that have no identifier of their own.
PLACEHOLDERS = ("0" * 32, "f" * 32, "0300020004000500000600070008" + "0009", "uninitialized")
# addr_assign_type (sysfs-class-net): the permanent address of the card, not a random one of each boot.
NET_ADDR_PERM = "0"
# addr_assign_type: an address that user space set, as for one end of a container's veth.
NET_ADDR_SET = "3"


def own_machine_id(folder: Path) -> str:
    """8 hex digits: the same after a restart, a reboot and a new network card, different on another machine.

    If the disk is not writable, they are valid for this run only.
    """
    path, traits = folder / "instance", observe_traits(ROOT)
    number, known = _stored(path)
    if number and not is_same_machine(known, traits):
        log.warning(
            "%s comes from another machine, so this one is a copy; if both run, give this one its own key",
            path,
        )
        number = ""
    fresh = number or secrets.token_hex(16)
    # Traits that are absent at the moment, such as a card that is unplugged, are kept.
    merged = {**known, **traits} if number else dict(traits)
    if (fresh, merged) != (number, known):
        try:
            write_private(str(path), json.dumps({"number": fresh, "traits": merged}) + "\n")
        except JaywalkError as error:
            log.warning("the id of this machine is valid for this run only: %s", error)
    return hashlib.sha256(fresh.encode()).hexdigest()[:8]


def is_same_machine(known: Traits, now: Traits) -> bool:
    """Whether a machine with the traits ``known`` may have the traits ``now`` today.

    A different UUID, serial number or machine-id means another machine.  Network cards get replaced, so
    different cards alone mean another machine only if no trait of the board shows that it is the same.
    """
    both = [kind for kind in TRAIT_FILES if known.get(kind) and now.get(kind)]
    if any(known[kind] != now[kind] for kind in both):
        return False
    if any(kind in BOARD_TRAITS for kind in both) or not known.get("links") or not now.get("links"):
        return True
    return not set(known["links"]).isdisjoint(now["links"])


def observe_traits(root: Path) -> dict[str, list[str]]:
    """The traits of this machine, without kinds that it lacks or that hold a placeholder."""
    contained = any((root / file).exists() for file in CONTAINER_FILES)
    kinds = [kind for kind in TRAIT_FILES if not (contained and kind in BOARD_TRAITS)]
    found = {kind: [text] for kind in kinds if (text := _identifier(_trait_file(root, kind)))}
    links = _permanent_addresses(root / "sys/class/net") or _container_addresses(root / "sys/class/net")
    if links:
        found["links"] = links
    return {kind: sorted(_hashed(kind, text) for text in texts) for kind, texts in found.items()}


def _trait_file(root: Path, kind: str) -> Path:
    """The file of a trait; the kernel shows the UUID to root only, so systemd reads it for the service."""
    file, credentials = root / TRAIT_FILES[kind], os.environ.get("CREDENTIALS_DIRECTORY", "")
    if credentials and not os.access(file, os.R_OK):
        return Path(credentials, file.name)
    return file


def _identifier(path: Path) -> str:
    text = _text(path).strip("\0 \n").lower()
    return "" if text.replace("-", "") in PLACEHOLDERS else text


def _permanent_addresses(folder: Path) -> list[str]:
    """The permanent addresses of the network cards."""
    links = [link for link in _links(folder) if (link / "device").exists()]
    return [_text(link / "address") for link in links if _text(link / "addr_assign_type") == NET_ADDR_PERM]


def _container_addresses(folder: Path) -> list[str]:
    """In a container: the addresses of its veth interfaces that user space set."""
    links = [link for link in _links(folder) if _text(link / "iflink") != _text(link / "ifindex")]
    return [_text(link / "address") for link in links if _text(link / "addr_assign_type") == NET_ADDR_SET]


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
    """The number and the traits on disk; empty if the file is missing or invalid."""
    try:
        document = json.loads(read_shared(str(path)))
        number, traits = document["number"], document["traits"]
        return str(number), {str(kind): [str(text) for text in texts] for kind, texts in traits.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "", {}
