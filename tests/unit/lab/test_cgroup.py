# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from lab.cgroup import group_paths

HYBRID = """9:name=systemd:/
4:memory:/some/where
0::/
"""


def test_hybrid_hosts_get_a_group_in_systemds_hierarchy_and_in_v2() -> None:
    assert group_paths(HYBRID, "x", hybrid=True) == ("/sys/fs/cgroup/systemd/x", "/sys/fs/cgroup/unified/x")


def test_pure_v2_hosts_get_one_group_below_the_unit() -> None:
    text = "0::/system.slice/jaywalk-lab-jw-node1.service\n"
    assert group_paths(text, "x", hybrid=False) == (
        "/sys/fs/cgroup/system.slice/jaywalk-lab-jw-node1.service/x",
    )
