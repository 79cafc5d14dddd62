# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens a machine's ssh port from inside its own network namespace, and hands the open connection out.

So machines in streets are reached without an address or a cable that the mesh could take for its own.
As a program it is what ssh_config(5) wants of a ProxyCommand with ProxyUseFdpass; imports nothing of
the lab, so that it starts fast.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence

SSH = ("127.0.0.1", 22)


def command(netns: str) -> list[str]:
    """What opens the door of the machine in that namespace; its standard output must be a Unix socket."""
    return ["nsenter", f"--net=/run/netns/{netns}", sys.executable, "-I", __file__]


def ssh_options(netns: str) -> dict[str, str]:
    """The options by which ssh takes the door."""
    return {"ProxyCommand": " ".join(command(netns)), "ProxyUseFdpass": "yes"}


def connect(netns: str, timeout: float) -> socket.socket:
    """A connection to the ssh server of the machine in that namespace; OSError if there is none."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        try:
            done = subprocess.run(
                command(netns),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"no connection within {timeout:g} s") from error
        if done.returncode:
            raise ConnectionRefusedError((done.stderr.strip() or "no connection").splitlines()[-1])
        _, (descriptor, *_), _, _ = socket.recv_fds(mine, 1, 1)
    return socket.socket(fileno=descriptor)


def main(hand_over: Sequence[socket.socket]) -> None:
    """Connect and pass the connection to whoever holds the other end of the socket."""
    with socket.create_connection(SSH, timeout=10) as connection:
        connection.setblocking(True)
        socket.send_fds(hand_over[0], [b"\0"], [connection.fileno()])


if __name__ == "__main__":
    main([socket.socket(fileno=1)])
