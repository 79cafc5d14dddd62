# SPDX-License-Identifier: GPL-3.0-or-later
"""Two supervisors that decide about one join token at the same moment, on a real Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaywalk.zone.join_tokens import JoinToken
from jaywalk.zone.models import Zone
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import ADD_TOKEN, REMOVE_TOKEN, Request
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store import pending
from jaywalk_supervisor.store.store import Store
from tests.supervisor_support import join, key_of

ZONE = Zone.validated("zone-blue", ["10.20.0.0/24"], policy=Policy.parse(admission="token"))


class Supervisor:
    """A supervisor's copy of the zone, and of the tokens that it has read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.state: ZoneState = store.load(ZONE.name)
        self.state.join_tokens = store.join_tokens(ZONE.name)

    def commit(self, request: Request) -> str:
        """Decide, and commit what that changes; return the outcome, or the code of the refusal."""
        decision = decide(self.state, request, self.store.time(ZONE.name))
        for change in decision.changes:
            self.state.apply(change, decision.peer)
        return (
            self.store.commit(self.state, decision.changes, ()) if decision.changes else decision.reply.code
        )


@pytest.fixture
def text(store: Store) -> str:
    """The text of a token for one node."""
    store.create(ZONE)
    store.bump(ZONE.name)
    token, text = JoinToken.create(store.time(ZONE.name), 3600)
    request = Request.validated(ADD_TOKEN, ZONE.name, "", token=token, token_id=token.id)
    assert Supervisor(store).commit(request) == "OK"
    return text


def joining(number: int, text: str) -> Request:
    return replace(join(ZONE.name, number), join_token=text, sealed="sealed", proven=True)


def test_two_supervisors_give_the_last_use_to_one_node(store: Store, text: str) -> None:
    first, second = Supervisor(store), Supervisor(store)
    assert first.commit(joining(1, text)) == "OK"
    assert second.commit(joining(2, text)) == "CONFLICT"
    assert Supervisor(store).commit(joining(2, text)) == "token-refused"
    [token] = store.join_tokens(ZONE.name).values()
    assert token.used == (key_of(1),)


def test_a_token_that_is_removed_while_a_node_joins_does_not_return(store: Store, text: str) -> None:
    joins, removes = Supervisor(store), Supervisor(store)
    removal = Request.validated(REMOVE_TOKEN, ZONE.name, "", token_id=text.split("_")[1])
    assert removes.commit(removal) == "OK"
    assert joins.commit(joining(1, text)) == "CONFLICT"
    assert store.join_tokens(ZONE.name) == {}
    assert Supervisor(store).commit(joining(1, text)) == "token-refused"


def test_a_zone_remembers_the_newest_thousand_nodes_that_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MAX_PENDING", 3)
    store.create(ZONE)
    for number in range(5):
        pending.record(store, ZONE.name, [join(ZONE.name, number)], 100 + number)
    pending.record(store, ZONE.name, [join(ZONE.name, 2)], 200)
    store.redis.hset("{zone-blue}:pending", key_of(9), "[")
    waiting = {found.key: (found.since, found.last) for found in pending.pending_of(store, ZONE.name)}
    assert waiting == {key_of(2): (102, 200), key_of(3): (103, 103), key_of(4): (104, 104), key_of(9): (0, 0)}
