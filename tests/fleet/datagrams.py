# SPDX-License-Identifier: GPL-3.0-or-later
"""A script for a machine of the lab that tests how routers treat UDP; it needs only Python.

    serve PORT                    reply to every datagram with its source address
    ask PORT TARGET...            from one local port, print each target's reply, or "silence"
    ask PORT TARGET again=S       the target replies again after S seconds; print both replies
    ask PORT TARGET from=OTHER    the target replies from its port OTHER
    punch PORT [ADDRESS]          by IPv6: send to the same port there for a while; print "heard" or "silence"

A target is ADDRESS:PORT.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time

# The time limit for a reply; a busy host replies later.
REPLY_SECONDS = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def bind(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


def serve(port: int) -> None:
    """Reply to datagrams for ever; a datagram may ask for a reply from another port, or for a second one."""
    main = bind(port)
    print("serving", flush=True)
    while True:
        data, sender = main.recvfrom(200)
        options = dict(option.split("=") for option in data.decode().split())
        source = f"{sender[0]}:{sender[1]}".encode()
        reply_socket = bind(int(options["from"])) if "from" in options else main
        reply_socket.sendto(source, sender)
        if "again" in options:
            threading.Timer(float(options["again"]), main.sendto, (source, sender)).start()


def ask(port: int, targets: list[str], options: list[str]) -> None:
    source = bind(port)
    for target in targets:
        address, number = target.split(":")
        source.sendto(" ".join(options).encode(), (address, int(number)))
        delays = [float(option.partition("=")[2]) for option in options if option.startswith("again=")]
        for wait in (REPLY_SECONDS, *(delay + REPLY_SECONDS for delay in delays)):
            source.settimeout(wait)
            try:
                print(source.recv(200).decode(), flush=True)
            except TimeoutError:
                print("silence", flush=True)


def punch(port: int, addresses: list[str]) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as source:
        source.bind(("", port))
        source.settimeout(REPLY_SECONDS / 4)
        heard = False
        for _ in range(12):
            for address in addresses:
                source.sendto(b"knock", (address, port))
            with contextlib.suppress(TimeoutError):
                heard = bool(source.recv(200)) or heard
                time.sleep(REPLY_SECONDS / 4)
        print("heard" if heard else "silence", flush=True)


if __name__ == "__main__":
    command, own, *rest = sys.argv[1:]
    if command == "serve":
        serve(int(own))
    elif command == "punch":
        punch(int(own), rest)
    else:
        ask(int(own), [word for word in rest if ":" in word], [word for word in rest if "=" in word])
