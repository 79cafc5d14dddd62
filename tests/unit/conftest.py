# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the checkout the import path that Ansible gives a collection.

Tests of the library, the agent and the supervisor import ``jaywalk...``; tests of modules import
``ansible_collections.jaywalking.mesh.plugins.modules...``. Both work under one plain ``pytest tests/unit``. A
test keeps to one of the two names: the library imported under both is two libraries, with two sets of errors.
"""

from __future__ import annotations

import sys
from pathlib import Path

COLLECTIONS = Path(__file__).parents[2] / "build" / "collections"


def _link_checkout() -> None:
    link = COLLECTIONS / "ansible_collections" / "jaywalking" / "mesh"
    if not (link / "galaxy.yml").exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../../..")


_link_checkout()
sys.path.insert(0, str(COLLECTIONS))
