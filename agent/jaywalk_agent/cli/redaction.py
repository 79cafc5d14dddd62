# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes secrets out of text that leaves this machine: known ones, and what stands where one would."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.files import read_secret, read_variables

from ..options import SECRET_FILE_OPTIONS, SECRET_OPTIONS

HIDDEN = "(hidden)"
SHORTEST = 4
"""Characters; a shorter secret is no secret, and hiding it would leave nothing to read."""
_VARIABLE = re.compile(
    r"(\b[A-Z_]*(?:PASSWD|PASSWORD|PRIVATE_KEY|TOKEN|SECRET)\b\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
_FLAG = re.compile(
    r"(--?(?:private-key|controller-password|streamer-passwd|requirepass)(?:=|\s+)|\brequirepass\s+|"
    r"\bmasterauth\s+|(?i:\bbearer\s+|\bprivate[ _-]?key\s*[:=]\s*|\bpreshared[ _-]?key\s*[:=]\s*))"
    r"(\"[^\"]*\"|'[^']*'|\S+)"
)
_DUMP_INTERFACE = 5
"""Fields of an interface in ``wg show all dump`` (wg(8)): name, private key, public key, port, mark."""
_DUMP_PEER = 9
"""Fields of a peer: interface, public key, preshared key, endpoint and so on."""


def secrets_of(options: Mapping[str, str], folder: Path, files: Iterable[Path] = ()) -> set[str]:
    """The secrets that the options, the services' settings in ``folder``, and ``files`` hold or name."""
    found = {options.get(option, "") for option in SECRET_OPTIONS}
    named = {options.get(option, "") for option in SECRET_FILE_OPTIONS} | {str(file) for file in files}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in (".key", ".password"):
            named.add(str(path))
        with suppress(JaywalkError):
            variables = read_variables(str(path)) if path.suffix == ".env" else {}
            found |= _values(variables, ("PASSWD", "PRIVATE_KEY"))
            named |= _values(variables, ("PASSWD_FILE", "KEY_FILE"))
    for file in named:
        with suppress(JaywalkError, OSError):
            found.add(read_secret(file, "secret"))
    return {each for each in found if len(each) >= SHORTEST}


def _values(variables: Mapping[str, str], endings: tuple[str, ...]) -> set[str]:
    return {value for name, value in variables.items() if name.endswith(endings)}


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """``text`` with each secret hidden, the longest first, and whatever follows a name of one."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _VARIABLE.sub(rf"\g<1>{HIDDEN}", text)
    return _FLAG.sub(rf"\g<1>{HIDDEN}", text)


def without_keys(dump: str) -> str:
    """``wg show all dump`` without private and preshared keys; a line of another form is left out."""
    lines = []
    for line in dump.splitlines():
        fields = line.split("\t")
        if len(fields) not in (_DUMP_INTERFACE, _DUMP_PEER):
            lines.append("(a line of an unknown form is left out)")
            continue
        secret = 1 if len(fields) == _DUMP_INTERFACE else 2
        if fields[secret] != "(none)":
            fields[secret] = HIDDEN
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n" if lines else ""
