# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that root and the user of the agent's service share: both work on them, nobody else reads them.

The service runs as the user :data:`AGENT_USER`, and an operator runs the commands as root.  Root trusts no
file in a folder of that user: it may be a link to a file of root's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat

AGENT_USER = "jaywalk"
# More than a copy of a zone has.
MAX_STATE_BYTES = 256 << 20


def share(handle: int, folder: str) -> None:
    """Lets the agent use a file that root makes in one of its folders.

    In a folder of the agent's user the file becomes this user's; in a folder of its group, such as
    ``/etc/jaywalk``, the group may read it.  Changes nothing in other folders, and for other users than root.
    """
    account = _account()
    if account is None or os.geteuid() != 0:
        return
    found = os.stat(folder)
    # Root without CAP_CHOWN, as in a service of the version before, has no such folders.
    with contextlib.suppress(PermissionError):
        if found.st_uid == account.pw_uid:
            os.fchown(handle, account.pw_uid, account.pw_gid)
        elif found.st_gid == account.pw_gid:
            os.fchown(handle, -1, account.pw_gid)
            os.fchmod(handle, 0o640)


def others_may_read(path: str) -> bool:
    """Whether somebody but the owner, root and the agent's group may read the file."""
    found = os.stat(path)
    account = _account()
    shared = account is not None and found.st_gid == account.pw_gid
    return bool(stat.S_IMODE(found.st_mode) & (0o037 if shared else 0o077))


def open_shared(path: str) -> int:
    """Opens a file for reading and appending, and creates it with mode 0600; refuses links and other kinds.

    Raises ``OSError``.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        _check_regular(handle, path)
        share(handle, os.path.dirname(os.path.abspath(path)))
    except OSError:
        os.close(handle)
        raise
    return handle


def read_shared(path: str) -> str:
    """The text of a file of the agent; raises ``OSError``, also for links and other kinds of files."""
    with os.fdopen(open_existing(path), encoding="utf-8", errors="replace") as stream:
        return stream.read(MAX_STATE_BYTES)


def open_existing(path: str) -> int:
    """Opens a file of the agent for reading; raises ``OSError``, also for links and other kinds of files."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_regular(handle, path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_regular(handle: int, path: str) -> None:
    found = os.fstat(handle)
    # A second name (link(2)) may be of a file of root's, where the kernel permits such links.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise PermissionError(1, "not a file of its own", path)


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(AGENT_USER)
    except KeyError:
        return None
