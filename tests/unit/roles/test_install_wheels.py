# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's pip installer uses only the machine's settings of package sources, and repairs a broken venv."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[3] / "roles/agent/files/install_wheels.py"
LISTED = r"""
:env:.timeout='30'
global.extra-index-url='\nhttps://one.example/simple\nhttps://two.example/simple'
global.index-url='https://global.example/simple'
global.timeout='5'
global.user='true'
install.index-url='https://install.example/simple'
install.no-deps='true'
"""


def test_only_settings_of_package_sources_are_kept(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTED}END\n")
    python.chmod(0o755)
    assert runpy.run_path(str(INSTALLER))["package_source"]([str(python)]) == {
        "PIP_EXTRA_INDEX_URL": "\nhttps://one.example/simple\nhttps://two.example/simple",
        "PIP_INDEX_URL": "https://install.example/simple",
        "PIP_TIMEOUT": "30",
    }


@pytest.mark.timeout(120)
def test_a_broken_venv_is_recreated_with_modes_for_all_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under umask 077, with settings that would install the packages elsewhere; a failure leaves no stamp."""
    venv, wheels = tmp_path / "venv", tmp_path / "wheels"
    stamp = venv / "wheels-of-jaywalk-agent"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to("/usr/bin/python3.99")
    stamp.write_text("the wheels of an earlier run")
    wheels.mkdir()
    for name, value in {"PIP_USER": "1", "PIP_REQUIRE_HASHES": "1", "PYTHONPATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    arguments = [
        str(venv),
        str(wheels),
        "jaywalk-0-py3-none-any.whl",
        f"--stamp={stamp}",
        "--clear",
        "--no-index",
    ]
    argv = ["/bin/sh", "-c", 'umask 077; exec "$0" -I - "$@" <"$INSTALLER"', sys.executable, *arguments]
    monkeypatch.setenv("INSTALLER", str(INSTALLER))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ERROR" in done.stderr
    assert "--user" not in done.stderr
    assert not stamp.exists()
    assert not wheels.exists()
    assert subprocess.run([venv / "bin/python", "--version"], check=False).returncode == 0
    assert (venv / "lib").stat().st_mode & 0o055 == 0o055
    assert not list(venv.glob("lib/*/site-packages/pip*")), "pip runs from the distribution's wheel"
