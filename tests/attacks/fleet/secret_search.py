# SPDX-License-Identifier: GPL-3.0-or-later
"""Searches bytes, and a machine's disks and journal, for secrets in every form that they can have.

The last function runs on the machine, as text for its ``python3``; the secrets reach it by standard input.
"""

from __future__ import annotations

import base64
import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from lab.node import Node

FOLDERS = ("/etc", "/var", "/root", "/home", "/run", "/tmp", "/dev/shm", "/opt", "/usr/local", "/srv")


def forms(secret: str) -> set[bytes]:
    """Return the forms of a secret: plain, base64 at any offset, hex, URL-quoted; of a key also the bytes."""
    found = {secret.encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for raw in (secret.encode(), *_key_bytes(secret)):
        found |= {raw, raw.hex().encode(), raw.hex().upper().encode()}
        for offset in range(3):
            # The outer characters also depend on what stands before and after.
            text = base64.b64encode(bytes(offset) + raw)
            inner = text[0 if offset == 0 else 4 : len(text) - 4]
            found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def _key_bytes(secret: str) -> list[bytes]:
    """Return the 32 bytes of a WireGuard key; nothing for other secrets."""
    try:
        raw = base64.b64decode(secret, validate=True)
    except ValueError:
        return []
    return [raw] if len(raw) == 32 else []


def secrets_in(text: bytes, secrets: Mapping[str, str]) -> list[str]:
    """Return the names of the secrets that are in ``text``."""
    return [name for name, secret in secrets.items() if any(form in text for form in forms(secret))]


def secrets_on(node: Node, secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (file or "journal", name of the secret) for each secret that is on a machine."""
    wanted = {name: [form.hex() for form in forms(secret)] for name, secret in secrets.items()}
    program = f"import json, subprocess, sys\nfrom pathlib import Path\n{inspect.getsource(search_here)}"
    command = ["python3", "-c", f"from __future__ import annotations\n{program}\nsearch_here({FOLDERS!r})"]
    done = node.run(command, 300, stdin=json.dumps(wanted))
    return [(where, name) for where, name in json.loads(done.stdout)]


def search_here(folders: tuple[str, ...]) -> None:
    """Print what is found on this machine, as JSON."""
    wanted = {name: [bytes.fromhex(form) for form in known] for name, known in json.load(sys.stdin).items()}
    found: list[tuple[str, str]] = []

    def search(where: str, text: bytes) -> None:
        found.extend((where, name) for name, known in wanted.items() if any(form in text for form in known))

    for folder in folders:
        for path in Path(folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.suffix not in (".pyc", ".so"):
                search(str(path), path.read_bytes())
    journal = ["journalctl", "--all", "--output=export", "--no-pager"]
    search("journal", subprocess.run(journal, capture_output=True, check=True).stdout)
    print(json.dumps(found))
