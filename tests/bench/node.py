# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a simulated zone: the same number is the same node in each process."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

# Microseconds since 1970, in the past, so that no request is from the future.
FIRST_SEQ = 1_700_000_000_000_000


@dataclass(frozen=True)
class Node:
    """The identity of a simulated machine."""

    number: int

    @property
    def key(self) -> str:
        return base64.b64encode(hashlib.sha256(f"bench {self.number}".encode()).digest()).decode()

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def endpoint(self) -> str:
        return f"198.18.{self.number // 250 % 256}.{self.number % 250 + 1}:51820"

    @property
    def machine_id(self) -> str:
        return f"{self.number:08x}"

    @property
    def seq(self) -> int:
        return FIRST_SEQ + self.number
