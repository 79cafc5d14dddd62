# SPDX-License-Identifier: GPL-3.0-or-later
"""The integration tests' import path: they need root, Redis, namespaces or Debian."""

from __future__ import annotations

from tests.collection_path import add_collection_path

add_collection_path()
