# SPDX-License-Identifier: GPL-3.0-or-later
"""This node's membership in its zone, and the request whose reply it waits for.

Pure but for log lines: no network, no disk, no clock.  The caller passes times in seconds of
``time.monotonic()``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from jaywalk.controller.client import FIRST_REPEAT_SECONDS
from jaywalk.core.errors import RequestRefused
from jaywalk.zone.blocks import BLOCKED
from jaywalk.zone.join_tokens import APPROVAL_NEEDED
from jaywalk.zone.models import Peer
from jaywalk.zone.record_fields import ENDPOINT, RELAY
from jaywalk.zone.requests import CHECK, REMOVED, Reply, Request
from jaywalk.zone.view import ZoneView

log = logging.getLogger(__name__)

# Between two tries of a request that nobody answers, at most.
LONGEST_REPEAT_SECONDS = 60.0
JOIN, ENDPOINT_UPDATE = "join", "endpoint"


@dataclass
class OutstandingRequest:
    """A request that is sent again, ever more slowly, until a supervisor replies.

    ``request`` is None until it is built for its first send, so that it has the endpoint of that moment.
    """

    op: str
    request: Request | None = None
    next_send: float = 0.0
    pause: float = FIRST_REPEAT_SECONDS
    tries: int = 0

    @property
    def nonce(self) -> str:
        """The nonce of the reply; empty before the first send."""
        return self.request.nonce if self.request is not None else ""

    def due(self, now: float) -> bool:
        """Whether to send it now."""
        return now >= self.next_send

    def sent(self, now: float) -> None:
        """Counts a send, and doubles the pause before the next one."""
        self.tries += 1
        self.next_send = now + self.pause
        self.pause = min(self.pause * 2, LONGEST_REPEAT_SECONDS)


@dataclass
class Membership:
    """Whether one key is a member of a zone, as far as the node with this key knows.

    ``own`` is the node's record in the zone.  ``removed`` is set when an operator removed the node, and
    ``superseded`` when its key joined from a machine with another ``machine_id``.  Only a restart of the
    agent reverts either.  ``blocked`` is the zone's refusal if an operator blocked the key; the node then
    asks again each minute whether it may join.  ``approval`` is the zone's refusal while an operator has not
    approved the key: the node asks again each minute, too.  ``former_addresses`` and ``former_name`` are
    what the node last had; its joins request them again, if they are free, in case Redis lost its lease.
    ``last_seq`` is the ``seq`` of its last record or granted join, which tells a removal from such a loss.
    ``connection_error`` is why the node does not follow its zone, and ``memory_error`` that the controller
    has no memory for a request.
    ``lock_error`` says that the zone or this node's own record has something that is not signed.
    """

    zone: str
    public_key: str
    machine_id: str = ""
    own: Peer | None = None
    removed: bool = False
    blocked: str = ""
    approval: str = ""
    superseded: bool = False
    outstanding: OutstandingRequest | None = None
    former_addresses: tuple[str, ...] = ()
    former_name: str = ""
    last_seq: int = 0
    connection_error: str = ""
    memory_error: str = ""
    lock_error: str = ""
    _was_member: bool = False
    _starting: bool = True
    _is_checked: bool = False
    _is_granted: bool = False
    _reported_endpoint: tuple[str, ...] = ()

    @property
    def member(self) -> bool:
        """Whether this node is in the zone."""
        return self.own is not None and not self.superseded

    @property
    def never_joined(self) -> bool:
        """Whether this node was not in the zone since the agent started."""
        return not self._was_member

    @property
    def ended(self) -> bool:
        """Whether this node stays out of the zone until its agent restarts."""
        return self.removed or self.superseded

    @property
    def waiting(self) -> bool:
        """Whether no supervisor has answered this node's last request yet."""
        return self.outstanding is not None

    @property
    def error(self) -> str:
        """Why this node does not follow its zone, in a sentence; empty if it does."""
        if self.superseded and not self.connection_error:
            return (
                f"superseded: the key of this node joined zone {self.zone} from another machine"
                f"{self._successor()}; give this node a key of its own, or restart the agent to take the "
                "place back"
            )
        if self.blocked:
            return f"removed and blocked: {self.blocked}"
        if self.removed:
            return f"this node was removed from zone {self.zone}; restart the agent to join again"
        if self.approval:
            return f"waiting for an operator's approval: {self.approval}"
        return self.memory_error or self.connection_error or self.lock_error

    def start(self, own: Peer | None) -> None:
        """Begins with the record ``own`` of the snapshot on disk, and with a join."""
        self.own = own
        self._was_member = self.member
        self._remember()
        self.start_request(JOIN)

    def start_request(self, op: str) -> None:
        """Replaces the outstanding request by a new one, which is due at once."""
        self.outstanding = OutstandingRequest(op)

    def connected(self) -> None:
        """Replaces the outstanding request on a new connection: the node may have another endpoint by now."""
        self._is_checked = False
        if self.outstanding is None:
            self.connection_error = ""
        else:
            self.start_request(self.outstanding.op)

    def enrol(self, now: float) -> None:
        """Replaces what only a member can request, before this node has a user of its own.

        It joins; a node that an operator removed only asks whether it is blocked, each minute, and so does a
        superseded one.  A member whose user is gone asks first whether it was removed: its connection may end
        before the event comes.
        """
        if self.ended and not self.blocked:
            if self.outstanding is None:
                self.outstanding = OutstandingRequest(CHECK, next_send=now + LONGEST_REPEAT_SECONDS)
        elif self._was_member and not self._starting and not self._is_checked:
            self._ask_for_removal()
        elif self.outstanding is None or self.outstanding.op != JOIN:
            self.start_request(JOIN)

    def granted(self) -> None:
        """Ends the join that the zone granted to a node that has no user to read its zone with yet.

        The join is not sent again: an operator may remove the node, or another machine take its key, before
        the node reads its first snapshot.
        """
        assert self.outstanding is not None and self.outstanding.request is not None
        self._reported_endpoint = _endpoint_of(self.outstanding.request)
        self.last_seq = self.outstanding.request.seq
        self.outstanding, self.connection_error, self.approval = None, "", ""
        self._starting, self._was_member, self._is_granted = False, True, True

    def endpoint_changed(self, request: Request) -> bool:
        """Whether ``request`` has another endpoint than the last one that the zone accepted.

        Or whether an operator granted what the zone left out of it.
        """
        moved = bool(request.endpoint) and _endpoint_of(request) != self._reported_endpoint
        return moved or (self.own is not None and _is_granted_more(request, self.own))

    def sent(self, now: float) -> None:
        """Counts a send of the outstanding request."""
        assert self.outstanding is not None
        self.outstanding.sent(now)
        if self.outstanding.tries > 1 and not self.removed:
            self.connection_error = f"no supervisor of zone {self.zone} has answered yet; the request waits"

    def handle_reply(self, reply: Reply, own: Peer | None, now: float) -> None:
        """Ends the outstanding request; raises ``RequestRefused`` if this node never joined.

        ``own`` is this node's record as the zone has it with the commit that the reply is about.
        """
        assert self.outstanding is not None and self.outstanding.request is not None
        request, self.outstanding = self.outstanding.request, None
        self.own, self._starting = own, False
        if reply.code == BLOCKED and not (request.op == JOIN and self.never_joined):
            self._set_blocked(reply.error, now)
            return
        self.blocked = ""
        if reply.code == APPROVAL_NEEDED:
            self.approval, self.connection_error = reply.error, ""
            self.outstanding = OutstandingRequest(JOIN, next_send=now + LONGEST_REPEAT_SECONDS)
            return
        self.approval = ""
        if request.op == CHECK:
            self._handle_check(reply)
            return
        if reply.ok:
            self._reported_endpoint = _endpoint_of(request)
            self.connection_error = ""
            self._check_superseded()
            return
        if reply.code == "superseded":
            self._set_superseded()
            return
        if self.never_joined:
            raise RequestRefused(reply.code, reply.error)
        # The node's lease stays in force.  The join is repeated in case an operator removes the obstacle.
        self.connection_error = f"the zone refused a request: {reply.error}"
        self.outstanding = OutstandingRequest(JOIN, next_send=now + LONGEST_REPEAT_SECONDS)

    def update(self, own: Peer | None, *, removal: bool) -> None:
        """Handles this node's record as the zone has it now; None if it has none.

        ``removal``: a missing record was removed by an operator, and not lost with Redis.  A removal from
        before this node asked to join, or from before its agent started, ends with that join.
        """
        self.own = own
        self._check_superseded()
        if self.superseded:
            return
        if own is not None:
            self._was_member, self.removed, self.blocked, self._is_granted = True, False, "", False
            self._remember()
        elif self._is_granted:
            self._is_granted = False
            self._ask_for_removal()
        elif self._was_member and not self.removed and not self._join_is_awaited():
            log.warning("zone %s %s this node", self.zone, "removed" if removal else "lost")
            self.removed, self.outstanding = removal, None
            # Whether the key is blocked, too, is known from the reply to any request.
            self.start_request(CHECK if removal else JOIN)

    def _ask_for_removal(self) -> None:
        """Asks whether an operator removed this node; :meth:`_handle_check` handles the reply."""
        self._is_checked = True
        self.start_request(CHECK)

    def _handle_check(self, reply: Reply) -> None:
        if not self._is_checked or self.ended:
            return
        if reply.state == REMOVED:
            log.warning("zone %s removed this node", self.zone)
            self.own, self.removed = None, True
        elif self.own is None:
            self.start_request(JOIN)

    def _set_blocked(self, error: str, now: float) -> None:
        """Stands down, and asks again each minute: an operator may allow the key again."""
        if not self.blocked:
            log.warning("zone %s removed and blocked this node: %s", self.zone, error)
        self.blocked, self.removed, self.connection_error = error, True, ""
        self.outstanding = OutstandingRequest(JOIN, next_send=now + LONGEST_REPEAT_SECONDS)

    def check_signed(self, view: ZoneView) -> None:
        """Notes what of the zone or of this node's own record is not taken since it is not signed."""
        self.lock_error = self.unsigned_reason(view)

    def unsigned_reason(self, view: ZoneView) -> str:
        """The sentence for :meth:`check_signed`; "" if all is signed, or if this node pins no lock key."""
        if view.lock is None:
            return ""
        own = view.rejected.get(self.public_key, "")
        if own and self.public_key in view.peers:
            own += "; what was signed before stays in force"
        return view.lock.problem or own

    def _join_is_awaited(self) -> bool:
        request = self.outstanding
        return request is not None and request.op == JOIN and (request.tries > 0 or self._starting)

    def _remember(self) -> None:
        self.former_addresses = self.own.addresses if self.own else ()
        self.former_name = self.own.name if self.own and self.own.requested_name else ""
        self.last_seq = self.own.seq if self.own else 0

    def _check_superseded(self) -> None:
        """The newest join of a key wins: once ours is answered, a record of another machine is newer."""
        joining = self.outstanding is not None and self.outstanding.op == JOIN
        if self._is_of_another_machine() and self.machine_id and not joining:
            self._set_superseded()

    def _set_superseded(self) -> None:
        if not self.superseded:
            log.warning(
                "zone %s: this node's key joined from another machine%s; standing down",
                self.zone,
                self._successor(),
            )
        self.superseded, self.outstanding, self.connection_error = True, None, ""

    def _is_of_another_machine(self) -> bool:
        return self.own is not None and self.own.machine_id not in ("", self.machine_id)

    def _successor(self) -> str:
        """The name and endpoint of the other machine with this key, as the zone has them."""
        if self.own is None or not self._is_of_another_machine():
            return ""
        return f", {self.own.name}" + (f" at {self.own.endpoint}" if self.own.endpoint else "")


def _is_granted_more(request: Request, own: Peer) -> bool:
    """Whether the record ``own`` lacks a part of ``request`` that an operator granted."""
    relay = bool(request.relay) and not own.relay and RELAY in own.grants
    return relay or (request.fixed and not own.fixed and ENDPOINT in own.grants)


def _endpoint_of(request: Request) -> tuple[str, ...]:
    return (request.endpoint, *request.local)
