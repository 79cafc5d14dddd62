# SPDX-License-Identifier: GPL-3.0-or-later
"""One peer's way as this node knows it, and the time spans by which ways are found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from jaywalk.mesh.node_interface import KEEPALIVE, Way

from .liveness import NEVER, Pulse

SLOT = 2.0
"""Seconds that one endpoint gets."""
STAGGER = 0.5
"""Seconds by which one end fires later.  Two first messages that cross cancel each other, and WireGuard sends
the next one only after 5 s; with 50 ms between them they do not."""
MUTE = 12.0
"""Seconds within which WireGuard answers traffic by itself (10 s, KEEPALIVE_TIMEOUT), without any agent."""
SESSION = 180
"""Seconds after its handshake at which a session ends (Reject-After-Time)."""
INITIATION = 148
"""Bytes of a handshake's first message, which proves one direction alone."""
BEAT = 96
"""Bytes on the wire of a question or an answer: 36 in UDP over IPv4, padded and sealed."""
TRAFFIC = 256
"""Bytes between two looks that are more than what keeps a session alive."""
BUSY_SECONDS = 10.0
"""How long a path counts as busy after traffic."""


class State(Enum):
    """Where a peer stands: ``PLAIN`` is one that needs no help, ``RELAY`` one between two rounds."""

    START = "start"
    PROBE = "probe"
    DIRECT = "direct"
    RELAY = "relay"
    PLAIN = "plain"


@dataclass(frozen=True)
class Target:
    """What the zone says of a peer: its endpoints, the best one first, and what kind of pair we are.

    ``here`` is where we ourselves are seen.  ``plain``: WireGuard alone will do.  ``hard``: both ends are
    behind NATs, each its own, so that a relay carries the pair until a direct path is proven.
    """

    key: str
    candidates: tuple[str, ...]
    here: str = ""
    plain: bool = True
    hard: bool = False

    @property
    def lone(self) -> bool:
        """Whether there is nothing to try but one endpoint, which WireGuard does by itself."""
        return self.plain and len(self.candidates) < 2


@dataclass(frozen=True)
class Seen:
    """What ``wg`` shows of a peer: the time of its last handshake (seconds since 1970, 0 for none), bytes."""

    handshake: int = 0
    received: int = 0
    sent: int = 0


@dataclass
class Path:
    """One peer's way.  ``since`` is when its state or slot began, ``base`` what was seen then."""

    target: Target
    since: float
    awake: bool
    """Whether WireGuard may speak first by itself."""
    state: State = State.START
    index: int = 0
    fired: bool = False
    hurry: float | None = None
    """Since when it has to prove itself: an end is said to be somewhere else, or answers by a relay."""
    tries: int = 0
    next_try: float = 0.0
    seen: Seen = field(default_factory=Seen)
    base: Seen = field(default_factory=Seen)
    beats: int = 0
    busy_until: float = NEVER
    called_until: float = NEVER
    pulse: Pulse = field(default_factory=Pulse)
    """Questions that the peer's agent answers."""
    life: Pulse = field(default_factory=Pulse)
    """The same, answered by anything that WireGuard hears, also from a peer whose agent is gone."""
    proof: Pulse = field(default_factory=Pulse)
    """The same, answered by the agent, or by the kernel where no agent listens."""
    asked_by: int = 0
    """Bytes of its own questions since the last look, which prove the way to us alone."""
    relay: str | None = None
    relay_pulse: Pulse = field(default_factory=Pulse)
    carried: bool = False
    """Whether its traffic goes by ``relay``."""

    @property
    def shaken(self) -> bool:
        """Whether there was a handshake since the slot began."""
        return self.seen.handshake not in (0, self.base.handshake)

    def mute(self, now: float) -> bool:
        """Whether WireGuard answers at the other end, but no agent."""
        return self.pulse.silent(now) > MUTE and self.life.silent(now) <= MUTE

    def way(self) -> Way:
        """How WireGuard is to treat the peer."""
        if self.state in (State.START, State.PLAIN):
            endpoint = self.target.candidates[0] if self.target.candidates else ""
            return Way(endpoint, KEEPALIVE if self.awake else 0)
        if self.state is State.RELAY and not self.carried and not self.shaken and self.target.candidates:
            # Not where the round ended, which is the least likely place.
            return Way(self.target.candidates[0], KEEPALIVE)
        # Who is carried is left in peace between two rounds: WireGuard would call at a dead end for ever.
        resting = self.carried and self.state is not State.DIRECT and not self.fired
        return Way("", 0 if resting else KEEPALIVE)

    def silent(self, now: float) -> bool:
        """Whether a peer that WireGuard should reach by itself does not answer any more, or never did.

        A peer that answered questions has to go on with that.  Of one that never did, say behind a firewall
        that drops them, anything counts that WireGuard hears.
        """
        if self.proof.silent(now) <= MUTE:
            return False
        return self.proof.answered > NEVER or self.life.silent(now) > MUTE

    def ask(self, now: float) -> None:
        self.pulse.ask(now)
        self.life.ask(now)
        self.proof.ask(now)

    def look(self, new: Seen, now: float) -> bool:
        """Takes in what ``wg`` shows; returns whether it answers an open question."""
        old, self.seen = self.seen, new
        moved = new.received + new.sent - old.received - old.sent - BEAT * self.beats
        heard = new.received - old.received - self.asked_by
        self.beats = self.asked_by = 0
        if new.handshake not in (0, old.handshake) and self.silent(now):
            self.proof.wake()
        if moved > TRAFFIC:
            self.busy_until = now + BUSY_SECONDS
            if new.received == old.received:
                self.proof.wake()
        if heard <= 0 or (heard % INITIATION == 0 and new.handshake == old.handshake):
            return False
        answers = self.life.unanswered is not None
        self.life.answer(now)
        return answers

    def enter(self, state: State, now: float) -> None:
        """Begins a state or a slot."""
        self.state, self.since, self.fired, self.base = state, now, False, self.seen

    def direct(self, now: float) -> None:
        """The direct path is proven."""
        if self.state not in (State.DIRECT, State.PLAIN):
            self.enter(State.PLAIN if self.target.plain else State.DIRECT, now)
        self.awake, self.hurry, self.tries, self.carried, self.relay = True, None, 0, False, None
        self.relay_pulse = Pulse()
