# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves the agent of one zone in the network namespace of its interface: runs programs and opens sockets.

systemd starts it inside of the namespace, as the agent's user and with the agent's capability.  The agent can
thus do nothing through it that it may not do itself, and needs no CAP_SYS_ADMIN to enter the namespace.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from jaywalk.core.errors import CommandHung, JaywalkError, MissingTool
from jaywalk.core.runner import Runner, SubprocessRunner
from jaywalk.service.sd_notify import notify

from .namespace_client import CHUNK_BYTES
from .netns import is_in
from .signals import StopSignal

log = logging.getLogger(__name__)

# How often the service checks that the namespace still has its name.
CHECK_SECONDS = 2.0
# Within this time a request has to arrive.
REQUEST_SECONDS = 10.0
# A request holds the input of one program, which has a line or a few words per peer.
MAX_REQUEST_BYTES = 64 << 20
BACKLOG = 64


def serve(path: Path, netns: str, stop: StopSignal) -> None:
    """Serves on the socket ``path`` until a signal, which raises :class:`.Stopped`.

    Raises ``JaywalkError`` if this process is not in ``netns``, or no longer: somebody removed the namespace,
    and this process alone keeps it alive.
    """
    with _listening(path) as listener:
        while is_in(netns):
            notify("READY=1")
            with stop.waiting():
                link = _accept(listener)
            if link is not None:
                threading.Thread(target=_handle, args=(link,), daemon=True).start()
    raise JaywalkError(
        f"this process is not in the network namespace {netns}",
        "let systemd start it, by the unit jaywalk-namespace@ZONE",
    )


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        try:
            # With the umask of the program: mode 0600.
            listener.bind(str(path))
        except OSError as error:
            raise JaywalkError(f"cannot listen on {path} ({error.strerror})", "check its folder") from None
        try:
            listener.listen(BACKLOG)
            listener.settimeout(CHECK_SECONDS)
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _accept(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except TimeoutError:
        return None


def _handle(link: socket.socket) -> None:
    """Answers one request; a bad one gets no answer."""
    with link, suppress(OSError):
        link.settimeout(REQUEST_SECONDS)
        try:
            request = json.loads(_received(link))
            answer, opened = _answer(request, SubprocessRunner())
        except (ValueError, TypeError, KeyError) as error:
            log.warning("ignored a bad request: %s", error)
            return
        with opened or nullcontext():
            data = json.dumps(answer).encode()
            descriptors = [opened.fileno()] if opened is not None else []
            sent = socket.send_fds(link, [data[:CHUNK_BYTES]], descriptors)
            link.sendall(data[sent:])


def _received(link: socket.socket) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := link.recv(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_REQUEST_BYTES:
            raise ValueError("the request is too long")
    return b"".join(chunks)


def _answer(request: Any, runner: Runner) -> tuple[dict[str, Any], socket.socket | None]:
    if "socket" in request:
        family, kind, protocol = (int(number) for number in request["socket"])
        try:
            return {}, socket.socket(family, kind, protocol)
        except OSError as error:
            return {"errno": error.errno or 0}, None
    argv, stdin = [str(word) for word in request["argv"]], request["stdin"]
    try:
        done = runner.run(argv, None if stdin is None else str(stdin))
    except MissingTool:
        return {"missing": True}, None
    except CommandHung:
        return {"hung": True}, None
    return {"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}, None
