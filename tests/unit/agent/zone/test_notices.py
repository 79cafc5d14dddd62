# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node logs about peers that the controller lost."""

from __future__ import annotations

from jaywalk.zone.view import Retained
from jaywalk_agent.zone.notices import reassigned
from tests.agent_support import event, peer, view_of


def test_an_address_that_another_peer_got_after_the_controller_lost_its_owner_is_reported() -> None:
    view = view_of(peer(0))
    view.retain(peer(1), Retained(5, 0.0))
    changed = event(view, peer(2)._replace(addresses=peer(1).addresses), peer(3))
    [sentence] = reassigned(view, changed)
    assert sentence.startswith(
        "10.20.0.2/32 of node1, which the controller of zone zone-blue lost, is now node2's: "
    )
    assert reassigned(view, view.retained) == [sentence]
    assert not reassigned(view, event(view, peer(1)))
