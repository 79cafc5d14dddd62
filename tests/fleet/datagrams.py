# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a machine of the lab, to see what routers make of UDP; needs nothing but Python.

    serve PORT                    answer every datagram with where it came from
    ask PORT TARGET...            from one local port, print each target's answer, or "silence"
    ask PORT TARGET again=S       the target answers once more after S seconds; print what came of both
    ask PORT TARGET from=OTHER    the target answers from its port OTHER
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

WAIT = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
"""Seconds after which there is silence; a busy host takes longer to answer."""


def bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


def serve(port: int) -> None:
    """Answers forever; a datagram may ask for another port of ours, or for a second answer."""
    main = bound(port)
    print("serving", flush=True)
    while True:
        data, sender = main.recvfrom(200)
        words = dict(word.split("=") for word in data.decode().split())
        said = f"{sender[0]}:{sender[1]}".encode()
        answering = bound(int(words["from"])) if "from" in words else main
        answering.sendto(said, sender)
        if "again" in words:
            threading.Timer(float(words["again"]), main.sendto, (said, sender)).start()


def ask(port: int, targets: list[str], options: list[str]) -> None:
    asking = bound(port)
    for target in targets:
        address, number = target.split(":")
        asking.sendto(" ".join(options).encode(), (address, int(number)))
        again = [float(option.partition("=")[2]) for option in options if option.startswith("again=")]
        for wait in (WAIT, *(each + WAIT for each in again)):
            asking.settimeout(wait)
            try:
                print(asking.recv(200).decode(), flush=True)
            except TimeoutError:
                print("silence", flush=True)


def punch(port: int, addresses: list[str]) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.bind(("", port))
        one.settimeout(WAIT / 4)
        heard = False
        for _ in range(12):
            for address in addresses:
                one.sendto(b"knock", (address, port))
            with contextlib.suppress(TimeoutError):
                heard = bool(one.recv(200)) or heard
                time.sleep(WAIT / 4)
        print("heard" if heard else "silence", flush=True)


if __name__ == "__main__":
    verb, own, *rest = sys.argv[1:]
    if verb == "serve":
        serve(int(own))
    elif verb == "punch":
        punch(int(own), rest)
    else:
        ask(int(own), [word for word in rest if ":" in word], [word for word in rest if "=" in word])
