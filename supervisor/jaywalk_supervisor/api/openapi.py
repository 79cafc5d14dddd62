# SPDX-License-Identifier: GPL-3.0-or-later
"""``/openapi.json``: the paths and answers of ``openapi.json``, with the schemas of the bodies' models."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from flask import Flask, Response, jsonify

from jaywalk.service.version import installed_version

from . import bodies

# Statuses of the HTTP server itself, which any operation may have.
SERVER_STATUSES = ("408", "413", "429")


def add_document(app: Flask) -> None:
    """Serves the document at ``/openapi.json``."""
    served = document()

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(served)


def document() -> dict[str, Any]:
    """Returns the API's OpenAPI document."""
    text = files(__package__).joinpath("openapi.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    found["info"]["version"] = installed_version()
    found["components"]["schemas"] |= bodies.schemas()
    for path in found["paths"].values():
        for method in path.keys() - {"parameters"}:
            statuses = {status: {"$ref": f"#/components/responses/{status}"} for status in SERVER_STATUSES}
            path[method]["responses"] |= statuses
    return found
