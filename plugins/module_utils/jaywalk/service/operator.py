# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of the person or program that runs a command, for the audit."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

# The user who logged in, which the kernel keeps through sudo and su; 4294967295 if nobody did.
LOGIN_UID = "/proc/self/loginuid"
NOBODY_LOGGED_IN = 2**32 - 1


def operator_name() -> str:
    """Returns ``USER@HOST``, or ``LOGIN as USER@HOST`` after sudo or su."""
    user = _name_of(os.geteuid())
    login = _login_name()
    as_user = f"{login} as {user}" if login and login != user else user
    return f"{as_user}@{socket.gethostname()}"


def _login_name() -> str:
    try:
        uid = int(Path(LOGIN_UID).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ""
    return "" if uid == NOBODY_LOGGED_IN else _name_of(uid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
