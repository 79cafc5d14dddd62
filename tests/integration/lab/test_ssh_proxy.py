# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from lab import ssh_proxy


def test_a_machine_that_is_off_refuses_the_connection() -> None:
    with pytest.raises(ConnectionRefusedError, match="No such file"):
        ssh_proxy.connect("jw-nobody", 5)
