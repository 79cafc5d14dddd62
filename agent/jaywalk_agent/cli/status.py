# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk status``: shows the status once, after a wait, or repeatedly."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from jaywalk.core.errors import JaywalkError

from ..config import AgentConfig
from ..status import report
from ..status import text as status_text

FAILURE = 1
WAIT_STEP_SECONDS = 0.5
# Moves to the upper left corner and clears from there (ECMA-48).
CLEAR = "\033[H\033[J"


def run(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Prints the status; returns 0 if this node is in order, else 1."""
    if arguments.watch:
        return _watch(config, arguments)
    deadline = time.monotonic() + arguments.wait
    shown = _gather(config, arguments)
    while not shown["in_order"] and time.monotonic() < deadline:
        time.sleep(WAIT_STEP_SECONDS)
        shown = _gather(config, arguments)
    print(_text(shown, arguments))
    return 0 if shown["in_order"] else FAILURE


def _watch(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Prints the status repeatedly until Ctrl-C; an error may be over the next time."""
    while True:
        try:
            text = _text(_gather(config, arguments), arguments)
        except JaywalkError as error:
            text = f"jaywalk: {error}"
        if arguments.json:
            print(text, flush=True)
        elif sys.stdout.isatty():
            print(f"{CLEAR}{time.strftime('%H:%M:%S')}  {text}", flush=True)
        else:
            print(f"{time.strftime('%H:%M:%S')}  {text}\n", flush=True)
        time.sleep(arguments.watch)


def _gather(config: AgentConfig, arguments: argparse.Namespace) -> dict[str, Any]:
    """The status; as JSON also if this node is in no zone."""
    try:
        return report.gather(config, config.runner())
    except report.NotAMember as error:
        if not arguments.json:
            raise
        return error.shown


def _text(shown: dict[str, object], arguments: argparse.Namespace) -> str:
    if arguments.json:
        return json.dumps(shown, indent=None if arguments.watch else 2)
    return status_text.text(shown, status_text.use_colours(), arguments.bad)
