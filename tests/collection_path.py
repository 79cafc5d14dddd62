# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the checkout the import path of a collection.

Tests of the library, the agent and the supervisor import ``jaywalk...``; tests of modules import
``ansible_collections.jaywalking.mesh.plugins.modules...``. Both work under one plain ``pytest``. A test uses
only one of the two names: the library imported under both is two libraries, with two sets of errors.
"""

from __future__ import annotations

import sys
from pathlib import Path

COLLECTIONS = Path(__file__).parents[1] / "build" / "collections"


def add_collection_path() -> None:
    """Link the checkout into a collections folder, and add that to the import path."""
    link = COLLECTIONS / "ansible_collections" / "jaywalking" / "mesh"
    if not (link / "galaxy.yml").exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../../..")
    sys.path.insert(0, str(COLLECTIONS))
