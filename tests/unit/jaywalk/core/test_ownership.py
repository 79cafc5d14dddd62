# SPDX-License-Identifier: GPL-3.0-or-later
"""Root and the agent's user share files, and root follows no link that this user made."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from jaywalk.core import ownership
from jaywalk.core.files import write_private

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
NOBODY = 65534
REFUSED = "symbolic links|not a file of its own|Is a directory"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's user is nobody."""
    entry = pwd.struct_passwd(("jaywalk", "x", NOBODY, NOBODY, "", "/", "/"))
    monkeypatch.setattr(ownership, "_account", lambda: entry)


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@AS_ROOT
@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ((NOBODY, NOBODY), (NOBODY, NOBODY, 0o600)),
        ((0, NOBODY), (0, NOBODY, 0o640)),
        ((0, 0), (0, 0, 0o600)),
        ((1, 1), (0, 0, 0o600)),
    ],
)
def test_a_file_that_root_writes_is_the_agents_in_the_agents_folders_only(
    tmp_path: Path, folder: tuple[int, int], file: tuple[int, int, int]
) -> None:
    os.chown(tmp_path, *folder)
    write_private(str(tmp_path / "file"), "text")
    os.close(ownership.open_shared(str(tmp_path / "lock")))
    assert owner_and_mode(tmp_path / "file") == file
    assert owner_and_mode(tmp_path / "lock") == file


def test_a_link_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "lost").symlink_to(tmp_path / "made")
    os.link(secret, tmp_path / "second")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "lost", "second", "pipe", "folder"):
        with pytest.raises(OSError, match=REFUSED):
            ownership.read_shared(str(tmp_path / name))
        with pytest.raises(OSError, match=REFUSED):
            ownership.open_shared(str(tmp_path / name))
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("mode", "shared", "others"),
    [
        (0o600, False, False),
        (0o640, False, True),
        (0o640, True, False),
        (0o644, True, True),
        (0o660, True, True),
    ],
)
def test_the_agents_group_is_none_of_the_others(
    tmp_path: Path, mode: int, shared: bool, others: bool
) -> None:
    file = tmp_path / "key"
    file.write_text("key")
    if shared:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(file, 0, NOBODY)
    file.chmod(mode)
    assert ownership.others_may_read(str(file)) is others
