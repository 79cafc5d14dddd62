# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of a WSGI application with a whole request of an ASGI server; the answer is whole, too.

Libraries for this, such as a2wsgi, stream instead: their threads wait for the event loop and so for clients.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.test import run_wsgi_app

# Headers that describe how a body was sent: here it is whole.
FRAMING = ("content-length", "transfer-encoding")


@dataclass(frozen=True)
class Answer:
    """An answer of the application."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes


def call(app: Flask, scope: Mapping[str, Any], body: bytes) -> Answer:
    """Returns what ``app`` answers to the request of an ASGI ``scope``."""
    parts, status, headers = run_wsgi_app(app, environment(scope, body), buffered=True)
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return Answer(int(status.split()[0]), pairs, b"".join(parts))


def environment(scope: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Returns the environment of a request (PEP 3333, whose texts are bytes decoded as latin-1)."""
    address, port = scope["server"]
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": address,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    names = [name.decode("latin-1") for name, _ in scope["headers"]]
    if any(name in FRAMING for name in names):
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, (_, text) in zip(names, scope["headers"], strict=True):
        if name in FRAMING:
            continue
        variable = name.upper().replace("-", "_")
        variable = variable if name == "content-type" else f"HTTP_{variable}"
        value = text.decode("latin-1")
        environ[variable] = f"{environ[variable]},{value}" if variable in environ else value
    return environ
