# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for the get-pip script that ansible-test downloads for each venv it makes.

Python carries pip already, so no download is needed: ensurepip unpacks it, and the packages named on the
command line are installed with it. scripts/sanity puts this file where ansible-test keeps its download.
"""

from __future__ import annotations

import os
import subprocess
import sys

GET_PIP_OPTIONS = {"--no-setuptools", "--no-wheel"}  # known to get-pip only; ensurepip brings neither


def main() -> None:
    """Put pip into the running interpreter's environment, then what the arguments name."""
    # ansible-test's pip wrapper runs the file that GET_PIP names: without this it would run us again.
    os.environ.pop("GET_PIP", None)
    packages = [word for word in sys.argv[1:] if word not in GET_PIP_OPTIONS]
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", *packages], check=True)


if __name__ == "__main__":
    main()
