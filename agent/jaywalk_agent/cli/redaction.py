# SPDX-License-Identifier: GPL-3.0-or-later
"""Hides secrets in text that leaves this machine: known ones, and values of names that denote one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import read_secret, read_variables

from ..options import SECRET_FILE_OPTIONS, SECRET_OPTIONS

HIDDEN = "(hidden)"
# A shorter text is no secret, and hiding it would make the text unreadable.
MIN_SECRET_LENGTH = 4
_VARIABLE = re.compile(
    r"(\b[A-Z_]*(?:PASSWD|PASSWORD|PRIVATE_KEY|TOKEN|SECRET)\b\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
_FLAG = re.compile(
    r"(--?(?:private-key|controller-password|streamer-passwd|requirepass)(?:=|\s+)|\brequirepass\s+|"
    r"\bmasterauth\s+|(?i:\bbearer\s+|\bprivate[ _-]?key\s*[:=]\s*|\bpreshared[ _-]?key\s*[:=]\s*))"
    r"(\"[^\"]*\"|'[^']*'|\S+)"
)
# Fields of an interface in ``wg show all dump`` (wg(8)): name, private key, public key, port, mark.
_DUMP_INTERFACE_FIELDS = 5
# Fields of a peer: interface, public key, preshared key, endpoint and so on.
_DUMP_PEER_FIELDS = 9


def secrets_of(options: Mapping[str, str], folder: Path, files: Iterable[Path] = ()) -> set[str]:
    """The secrets in the options, in the service files of ``folder``, and in the files that they name."""
    found = {options.get(option, "") for option in SECRET_OPTIONS}
    named = {options.get(option, "") for option in SECRET_FILE_OPTIONS} | {str(file) for file in files}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in (".key", ".password", ".join-token"):
            named.add(str(path))
        with suppress(JaywalkError):
            variables = read_variables(str(path)) if path.suffix == ".env" else {}
            found |= _values(variables, ("PASSWD", "PRIVATE_KEY"))
            named |= _values(variables, ("PASSWD_FILE", "KEY_FILE", "TOKEN_FILE"))
    for file in named:
        with suppress(JaywalkError, OSError):
            found.add(read_secret(file, "secret"))
    return {secret for secret in found if len(secret) >= MIN_SECRET_LENGTH}


def _values(variables: Mapping[str, str], endings: tuple[str, ...]) -> set[str]:
    return {value for name, value in variables.items() if name.endswith(endings)}


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """``text`` with each secret hidden, the longest first, and the value after each name of a secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _VARIABLE.sub(rf"\g<1>{HIDDEN}", text)
    return _FLAG.sub(rf"\g<1>{HIDDEN}", text)


def without_keys(dump: str) -> str:
    """``wg show all dump`` without private and preshared keys; drops a line of an unknown form."""
    lines = []
    for line in dump.splitlines():
        fields = line.split("\t")
        if len(fields) not in (_DUMP_INTERFACE_FIELDS, _DUMP_PEER_FIELDS):
            lines.append("(dropped a line of an unknown form)")
            continue
        secret = 1 if len(fields) == _DUMP_INTERFACE_FIELDS else 2
        if fields[secret] != "(none)":
            fields[secret] = HIDDEN
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n" if lines else ""
