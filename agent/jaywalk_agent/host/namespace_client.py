# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's side of the namespace service: one connection a request, JSON in both directions."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaywalk.core.errors import CommandHung, JaywalkError, MissingTool
from jaywalk.core.runner import PROGRAM_TIMEOUT_SECONDS, Finished, NamespaceRunner, Runner

CHUNK_BYTES = 1 << 16
# Longer than a program may run there.
TIMEOUT_SECONDS = PROGRAM_TIMEOUT_SECONDS + 5.0


class ServedRunner(NamespaceRunner):
    """A runner whose programs run in ``netns`` through the service that listens on ``service``."""

    def __init__(self, outside: Runner, netns: str, service: Path) -> None:
        super().__init__(outside, netns)
        self._service = service

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        try:
            answer, descriptors = self._ask({"argv": list(argv), "stdin": stdin})
        except (OSError, ValueError) as error:
            raise JaywalkError(
                f"nothing serves the network namespace {self.netns}: {self._service} fails ({error})",
                "see 'systemctl status jaywalk-namespace@ZONE'",
            ) from None
        _close(descriptors)
        if answer.get("missing"):
            raise MissingTool(argv[0])
        if answer.get("hung"):
            raise CommandHung(argv, PROGRAM_TIMEOUT_SECONDS)
        return Finished(int(answer["returncode"]), str(answer["stdout"]), str(answer["stderr"]))

    def open_socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        """A socket that the service opened; raises ``OSError``."""
        try:
            answer, descriptors = self._ask({"socket": [int(family), int(kind), int(protocol)]})
        except ValueError as error:
            raise OSError(f"{self._service}: {error}") from None
        if len(descriptors) != 1:
            _close(descriptors)
            number = int(answer.get("errno", 0))
            raise OSError(number, os.strerror(number))
        return socket.socket(fileno=descriptors[0])

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(TIMEOUT_SECONDS)
            link.connect(str(self._service))
            link.sendall(json.dumps(request).encode())
            link.shutdown(socket.SHUT_WR)
            head, descriptors, _flags, _address = socket.recv_fds(link, CHUNK_BYTES, 1)
            chunks = [head]
            try:
                while chunks[-1]:
                    chunks.append(link.recv(CHUNK_BYTES))
                answer = json.loads(b"".join(chunks))
                if not isinstance(answer, dict):
                    raise ValueError("the answer is no object")
            except (OSError, ValueError):
                _close(descriptors)
                raise
        return answer, descriptors


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
