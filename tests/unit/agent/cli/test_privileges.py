# SPDX-License-Identifier: GPL-3.0-or-later
"""A process without root but with CAP_NET_ADMIN may run the commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk_agent.cli import privileges
from jaywalk_agent.host import capabilities

NOBODY = 65534


def test_the_capability_is_enough_without_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(capabilities, "STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tjaywalk\nCapEff:\t0000000000001000\n")
    privileges.require("status")
    (tmp_path / "status").write_text("Name:\tjaywalk\nCapEff:\t0000000000000fff\n")
    with pytest.raises(JaywalkError, match="needs root"):
        privileges.require("status")
