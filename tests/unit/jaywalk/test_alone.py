# SPDX-License-Identifier: GPL-3.0-or-later
"""The library stands alone: it loads without Ansible, redis-py and cryptography, and on its oldest Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[3] / "plugins" / "module_utils"

LOAD_ALL = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("error")
for name in ("ansible", "ansible_collections", "redis", "hiredis", "flask", "netaddr", "cryptography"):
    sys.modules[name] = None
import jaywalk
names = [each.name for each in pkgutil.walk_packages(jaywalk.__path__, "jaywalk.")]
for name in names:
    importlib.import_module(name)
from jaywalk.controller import bounded, connection
from jaywalk.controller.address import ControllerAddress
from jaywalk.core import validation
from jaywalk.core.errors import MissingTool
assert not bounded.HAS_REDIS
try:
    connection.connect(ControllerAddress("192.0.2.1"))
except MissingTool as error:
    assert "python3-redis" in str(error)
else:
    raise SystemExit("connected without redis-py")
from jaywalk.trust import secrets
assert not secrets.HAS_CRYPTOGRAPHY
assert validation.endpoint("[2001:DB8::1]:51820") == "[2001:db8::1]:51820"
print(*names)
"""


def pythons() -> list[str]:
    """This interpreter and, where one is installed, the oldest that the library promises to run on."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = [*sorted(pyenv.glob("versions/3.9.*/bin/python3.9")), Path("/usr/bin/python3.9")]
    return [sys.executable, *(str(path) for path in installed[:1] if path.exists())]


@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
def test_every_module_loads_without_third_parties(python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [python, "-I", "-B", "-c", f"import sys; sys.path.insert(0, {str(LIBRARY)!r}){LOAD_ALL}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = (path.relative_to(LIBRARY) for path in (LIBRARY / "jaywalk").glob("*/*.py"))
    modules = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert set(done.stdout.split()) == modules
