# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to a machine's sshd from inside its network namespace, and pass the open connection to ssh.

A machine in a NAT site needs no address or interface for the operator, which the mesh could use as a path.
As a program this is a ProxyCommand for ssh_config(5)'s ProxyUseFdpass; it imports nothing of the lab and
so starts fast.
"""

from __future__ import annotations

import socket
import subprocess
import sys

SSHD_ADDRESS = ("127.0.0.1", 22)
CONNECT_TIMEOUT_SECONDS = 10


def command(netns: str) -> list[str]:
    """Return the proxy command for a machine's namespace; its standard output must be a Unix socket."""
    return ["nsenter", f"--net=/run/netns/{netns}", sys.executable, "-I", __file__]


def ssh_options(netns: str) -> dict[str, str]:
    """Return the options with which ssh uses the proxy."""
    return {"ProxyCommand": " ".join(command(netns)), "ProxyUseFdpass": "yes"}


def connect(netns: str, timeout: float) -> socket.socket:
    """Connect to the sshd of the machine in that namespace; raise OSError if there is none."""
    ours, proxys = socket.socketpair()
    with ours, proxys:
        try:
            done = subprocess.run(
                command(netns),
                stdout=proxys.fileno(),
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"no connection within {timeout:g} s") from error
        if done.returncode:
            raise ConnectionRefusedError((done.stderr.strip() or "no connection").splitlines()[-1])
        _, (descriptor, *_), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptor)


def main(standard_output: socket.socket) -> None:
    """Connect and send the connection's descriptor through the socket."""
    with socket.create_connection(SSHD_ADDRESS, timeout=CONNECT_TIMEOUT_SECONDS) as connection:
        connection.setblocking(True)
        socket.send_fds(standard_output, [b"\0"], [connection.fileno()])


if __name__ == "__main__":
    main(socket.socket(fileno=1))
