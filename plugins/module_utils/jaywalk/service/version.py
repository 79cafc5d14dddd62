# SPDX-License-Identifier: GPL-3.0-or-later
"""The version, which the collection and the wheel share."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The version of the installed wheel, or a text for a checkout."""
    try:
        return version("jaywalk")
    except PackageNotFoundError:
        return "from a checkout"
