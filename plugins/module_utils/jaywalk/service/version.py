# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release this is; collection and wheel share one version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The version of the installed wheel, or words for a checkout."""
    try:
        return version("jaywalk")
    except PackageNotFoundError:
        return "from a checkout"
