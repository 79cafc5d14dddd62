# SPDX-License-Identifier: GPL-3.0-or-later
"""A mark of this machine, by which the zone tells it from another one that has the same key."""

from __future__ import annotations

import hashlib
import logging
import secrets
from pathlib import Path

from jaywalk.errors import JaywalkError
from jaywalk.files import write_private

log = logging.getLogger(__name__)

HARDWARE = Path("/sys/class/dmi/id/product_uuid")
"""Differs in a virtual machine that was cloned together with its disk."""


def own_instance(folder: Path) -> str:
    """8 hex digits: the same after a restart and a reboot, others on another machine.

    Made of a random number that ``folder`` keeps and of the hardware's own.  Where the disk takes nothing,
    the number holds for this run.
    """
    path = folder / "instance"
    try:
        number = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        number = ""
    if not number:
        number = secrets.token_hex(16)
        try:
            write_private(str(path), number + "\n")
        except JaywalkError as error:
            log.warning("the mark of this machine is for this run only: %s", error)
    return hashlib.sha256(f"{number} {_hardware()}".encode()).hexdigest()[:8]


def _hardware() -> str:
    try:
        return HARDWARE.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
