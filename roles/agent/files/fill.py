# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a venv from a folder of wheels, whatever Python and pip are told on the machine.

Of pip's settings those count that say where packages come from: an index of one's own and the way to it.
All else could put the packages elsewhere ("user", "target", "prefix") or refuse them.
"""

import argparse
import ast
import os
import pathlib
import shutil
import subprocess
import sys

INDEX = (
    *("index-url", "extra-index-url", "find-links", "trusted-host"),
    *("proxy", "cert", "client-cert", "timeout", "retries"),
)
SECTIONS = ("global", "install", ":env:")
"""In pip's order; the later one wins."""


def main() -> int:
    """Returns pip's exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venv", type=pathlib.Path)
    parser.add_argument("wheels", type=pathlib.Path)
    parser.add_argument("wheel")
    parser.add_argument("--extras", default="")
    parser.add_argument("--stamp", type=pathlib.Path)
    parser.add_argument("--clear", action="store_true", help="make the venv anew")
    parser.add_argument("--no-index", action="store_true")
    options = parser.parse_args()
    os.umask(0o022)
    options.stamp.unlink(missing_ok=True)
    try:
        fill(options)
    except subprocess.CalledProcessError as error:
        return error.returncode
    finally:
        shutil.rmtree(options.wheels, ignore_errors=True)
    subprocess.run(["chmod", "-R", "a+rX", options.venv], check=True)
    return 0


def fill(options: argparse.Namespace) -> None:
    """Makes the venv where it is missing or broken, and installs the wheel with what it needs."""
    extras = {extra for extra in options.extras.split(",") if extra}
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    python = options.venv / "bin/python"
    if options.clear:
        if (options.venv / "wheels-of-jaywalk-supervisor").exists():
            extras.add("supervisor")  # which runs from here too
        subprocess.run(["python3", "-m", "venv", "--clear", options.venv], check=True, env=clean)
    environment = {**clean, **index_settings(str(python)), "PIP_CONFIG_FILE": os.devnull}
    wheel = f"jaywalk[{','.join(sorted(extras))}] @ {(options.wheels / options.wheel).as_uri()}"
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--force-reinstall"]
    source = ["--find-links", str(options.wheels), *(["--no-index"] if options.no_index else [])]
    argv = [str(python), "-I", "-m", "pip", "install", *quiet, *source, wheel]
    subprocess.run(argv, check=True, env=environment)


def index_settings(python: str) -> dict[str, str]:
    """Where the machine's pip looks for packages, as variables of pip."""
    argv = [python, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    found = {}
    for section in SECTIONS:
        for line in listed.splitlines():
            name, _equals, text = line.partition("=")
            key = name.removeprefix(f"{section}.")
            if key != name and key in INDEX:
                found[f"PIP_{key.upper().replace('-', '_')}"] = str(ast.literal_eval(text))
    return found


if __name__ == "__main__":
    sys.exit(main())
