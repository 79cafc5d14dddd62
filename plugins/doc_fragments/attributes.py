# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's modules promise, described once."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of all modules, and of those that take the controller's options."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Runs in check mode, says what it would change and writes nothing.
  diff_mode:
    description: Returns what changed in diff mode, in check mode the same as in the run that follows it.
  idempotent:
    description: Run again with the same options, it changes nothing.
  platform:
    description: The operating systems that the module works on.
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Reads only.
  diff_mode:
    support: N/A
    details: Reads only.
  idempotent:
    support: N/A
    details: Reads only.
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: >-
      Use C(group/jaywalking.mesh.jaywalk) in C(module_defaults) to write the controller and the zone once for
      a play.
    support: full
    membership:
      - jaywalking.mesh.jaywalk
"""
