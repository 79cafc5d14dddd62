# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of peers that the controller lost."""

from __future__ import annotations

from jaywalk.zone.view import Retained
from jaywalk_agent.zone.notices import supplanted
from tests.agent_support import event, peer, view_of


def test_it_says_whose_address_the_controller_gave_to_another_after_it_lost_it() -> None:
    view = view_of(peer(0))
    view.retain(peer(1), Retained(5, 0.0))
    changed = event(view, peer(2)._replace(addresses=peer(1).addresses), peer(3))
    [sentence] = supplanted(view, changed)
    assert sentence.startswith(
        "10.20.0.2/32 of node1, which the controller of zone zone-blue lost, is now node2's: "
    )
    assert supplanted(view, view.retained) == [sentence]
    assert not supplanted(view, event(view, peer(1)))
