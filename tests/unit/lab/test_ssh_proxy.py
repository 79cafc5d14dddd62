# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import threading

import pytest

from lab import ssh_proxy


def test_ssh_receives_the_open_connection_instead_of_copying_its_bytes() -> None:
    options = ssh_proxy.ssh_options("jw-anna")
    assert options["ProxyUseFdpass"] == "yes"
    assert options["ProxyCommand"].startswith("nsenter --net=/run/netns/jw-anna ")


def test_the_passed_descriptor_is_the_connection_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, proxys = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server, ours, proxys:
        monkeypatch.setattr(ssh_proxy, "SSHD_ADDRESS", server.getsockname())
        ssh_proxy.main(proxys)
        accepted, _ = server.accept()
        _, (descriptor, *_), _, _ = socket.recv_fds(ours, 1, 1)
        assert os.get_blocking(descriptor)
        with socket.socket(fileno=descriptor) as handed, accepted:
            threading.Thread(target=accepted.sendall, args=(b"SSH-2.0",)).start()
            assert handed.recv(20) == b"SSH-2.0"
