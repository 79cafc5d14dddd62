# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of a zone's Redis keys, and of the keys that all zones share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

ZONES = "jw:zones"
# The set of zones that an operator removed, so that no supervisor creates them again by itself.
REMOVED_ZONES = "jw:removed"
# Exists once an operator declared the zones: supervisors then create no default zones.
DECLARED = "jw:declared"
# The hash of all tokens of the REST API: name -> JSON record.
TOKENS = "jw:tokens"
# The audit of the tokens; the braces put it in the slot of the tokens, so that one script writes both.
TOKENS_AUDIT = f"{{{TOKENS}}}:audit"
# The supervisor that serves all zones of a single server; in a cluster each zone has its own key.
LEADER = "jw:leader"
# The fields of a zone's meta data for its head.
HEAD_FIELDS = ("epoch", "rev", "mark")
# The field of a zone's meta data with the public keys of the supervisors, newest first, separated by commas.
SUPERVISOR_KEYS = "supervisor_keys"
# The field of a zone's meta data that says that each node has a Redis user of its own.
NODE_USERS = "node_users"


@dataclass(frozen=True)
class ZoneKeys:
    """The Redis keys of a zone; the braces put them all in one slot of a cluster."""

    zone: str

    def _key(self, part: str) -> str:
        return f"{{{self.zone}}}:{part}"

    @cached_property
    def meta(self) -> str:
        return self._key("meta")

    @cached_property
    def peers(self) -> str:
        return self._key("peers")

    @cached_property
    def events(self) -> str:
        return self._key("events")

    @cached_property
    def leases(self) -> str:
        return self._key("leases")

    @cached_property
    def inbox(self) -> str:
        return self._key("inbox")

    # The names "orders" and "seen" stay in Redis, since supervisors of two versions run side by side during
    # an upgrade.  With other names, a leader of the other version would not answer operators' requests, and
    # would compare outdated last-seen times: under the takeover policy "stale" it would give away addresses
    # of live nodes.
    @cached_property
    def operator_inbox(self) -> str:
        return self._key("orders")

    @cached_property
    def credentials(self) -> str:
        return self._key("creds")

    @cached_property
    def blocked(self) -> str:
        return self._key("blocked")

    @cached_property
    def join_tokens(self) -> str:
        return self._key("join_tokens")

    @cached_property
    def pending(self) -> str:
        return self._key("pending")

    @cached_property
    def audit(self) -> str:
        return self._key("audit")

    @cached_property
    def node_audit(self) -> str:
        return self._key("audit:nodes")

    @cached_property
    def floors(self) -> str:
        return self._key("floors")

    @cached_property
    def last_seen(self) -> str:
        return self._key("seen")

    @cached_property
    def leader(self) -> str:
        return self._key("leader")

    def reply(self, nonce: str) -> str:
        return self._key(f"reply:{nonce}")
