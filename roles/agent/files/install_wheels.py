# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs a folder of wheels into a venv, independent of the machine's settings of Python and pip.

Only the pip settings that select the package source apply: a private index and how to reach it.
Other settings could install the packages elsewhere ("user", "target", "prefix") or reject them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

PACKAGE_SOURCE_SETTINGS = (
    *("index-url", "extra-index-url", "find-links", "trusted-host"),
    *("proxy", "cert", "client-cert", "timeout", "retries"),
)
# Where distributions keep the wheel of pip that `python3 -m venv` would install into each venv.
PIP_WHEEL_FOLDERS = (
    *filter(None, [sysconfig.get_config_var("WHEEL_PKG_DIR")]),
    "/usr/share/python-wheels",
    str(pathlib.Path(os.__file__).with_name("ensurepip") / "_bundled"),
)
# In pip's order of precedence: a later section overrides an earlier one.
PIP_CONFIG_SECTIONS = ("global", "install", ":env:")


def main() -> int:
    """Installs the wheels and returns pip's exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venv", type=pathlib.Path)
    parser.add_argument("wheels", type=pathlib.Path)
    parser.add_argument("wheel")
    parser.add_argument("--extras", default="")
    parser.add_argument("--stamp", type=pathlib.Path)
    parser.add_argument("--clear", action="store_true", help="recreate the venv")
    parser.add_argument("--no-index", action="store_true")
    options = parser.parse_args()
    os.umask(0o022)
    options.stamp.unlink(missing_ok=True)
    try:
        install(options)
    except subprocess.CalledProcessError as error:
        return error.returncode
    finally:
        shutil.rmtree(options.wheels, ignore_errors=True)
    subprocess.run(["chmod", "-R", "a+rX", options.venv], check=True)
    return 0


def install(options: argparse.Namespace) -> None:
    """Recreates the venv if --clear is given, and installs the wheel with its dependencies."""
    extras = {extra for extra in options.extras.split(",") if extra}
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    pip_wheel = find_pip_wheel()
    if options.clear:
        if (options.venv / "wheels-of-jaywalk-supervisor").exists():
            extras.add("supervisor")  # the supervisor runs from the same venv
        without = ["--without-pip"] if pip_wheel else []
        subprocess.run(["python3", "-m", "venv", "--clear", *without, options.venv], check=True, env=clean)
    pip = pip_command(options.venv / "bin/python", pip_wheel, options.wheels / "pip")
    environment = {**clean, **package_source(pip), "PIP_CONFIG_FILE": os.devnull}
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--force-reinstall"]
    source = ["--find-links", str(options.wheels), *(["--no-index"] if options.no_index else [])]
    what = requirements(options.wheels, options.wheel, extras)
    subprocess.run([*pip, "install", *quiet, *source, *what], check=True, env=environment)


def find_pip_wheel() -> pathlib.Path | None:
    """Returns the wheel of pip that the distribution brings for venvs, if it is in a known place."""
    for folder in PIP_WHEEL_FOLDERS:
        for wheel in pathlib.Path(folder).glob("pip-*.whl"):
            return wheel
    return None


def pip_command(python: pathlib.Path, wheel: pathlib.Path | None, folder: pathlib.Path) -> list[str]:
    """Returns the command of pip for a venv: from the wheel, unpacked into the folder, or its own."""
    if wheel is None:
        return [str(python), "-I", "-m", "pip"]
    shutil.unpack_archive(wheel, folder, "zip")
    return [str(python), "-I", str(folder / "pip")]


def requirements(wheels: pathlib.Path, name: str, extras: set[str]) -> list[str]:
    """Returns pip's arguments for the wheel and its dependencies, which it lists with their hashes."""
    wheel = wheels / name
    named = f"jaywalk[{','.join(sorted(extras))}] @ {wheel.as_uri()}"
    hashed = list_with_hashes(wheel, "supervisor" if "supervisor" in extras else "agent")
    if not hashed:
        return [named]
    own_hash = hashlib.sha256(wheel.read_bytes()).hexdigest()
    listed = wheels / "requirements.txt"
    listed.write_bytes(hashed + f"\n{named} --hash=sha256:{own_hash}\n".encode())
    return ["--no-deps", "--require-hashes", "--requirement", str(listed)]


def list_with_hashes(wheel: pathlib.Path, name: str) -> bytes:
    """Returns the list of dependencies with hashes in a wheel; empty for a wheel of an older version."""
    if not zipfile.is_zipfile(wheel):
        return b""  # pip says what is wrong with it
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.endswith(f".dist-info/extra_metadata/{name}.txt"):
                return archive.read(member)
    return b""


def package_source(pip: list[str]) -> dict[str, str]:
    """Returns the machine's pip settings that select the package source, as environment variables."""
    argv = [*pip, "config", "list", "--disable-pip-version-check"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    found = {}
    for section in PIP_CONFIG_SECTIONS:
        for line in listed.splitlines():
            name, _equals, text = line.partition("=")
            key = name.removeprefix(f"{section}.")
            if key != name and key in PACKAGE_SOURCE_SETTINGS:
                found[f"PIP_{key.upper().replace('-', '_')}"] = str(ast.literal_eval(text))
    return found


if __name__ == "__main__":
    sys.exit(main())
