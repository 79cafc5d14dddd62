# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import threading

import pytest

from lab import door


def test_a_machine_that_is_off_has_no_door() -> None:
    with pytest.raises(ConnectionRefusedError, match="No such file"):
        door.connect("jw-nobody", 5)


def test_ssh_takes_the_open_connection_instead_of_copying_its_bytes() -> None:
    options = door.ssh_options("jw-anna")
    assert options["ProxyUseFdpass"] == "yes"
    assert options["ProxyCommand"].startswith("nsenter --net=/run/netns/jw-anna ")


def test_what_is_handed_over_is_the_connection_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server, mine, theirs:
        monkeypatch.setattr(door, "SSH", server.getsockname())
        door.main([theirs])
        accepted, _ = server.accept()
        _, (descriptor, *_), _, _ = socket.recv_fds(mine, 1, 1)
        assert os.get_blocking(descriptor)
        with socket.socket(fileno=descriptor) as handed, accepted:
            threading.Thread(target=accepted.sendall, args=(b"SSH-2.0",)).start()
            assert handed.recv(20) == b"SSH-2.0"
