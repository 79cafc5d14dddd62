# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for the get-pip script that ansible-test downloads for each venv it makes.

Python contains pip, so no download is needed: ensurepip unpacks it, and it installs the packages of the
command line. scripts/sanity copies this file to ansible-test's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys

GET_PIP_OPTIONS = {"--no-setuptools", "--no-wheel"}  # get-pip's own options; ensurepip installs neither


def main() -> None:
    """Install pip into the running interpreter's environment, then the packages of the arguments."""
    # ansible-test's pip wrapper runs the file in GET_PIP, which would be this file again.
    os.environ.pop("GET_PIP", None)
    packages = [argument for argument in sys.argv[1:] if argument not in GET_PIP_OPTIONS]
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", *packages], check=True)


if __name__ == "__main__":
    main()
