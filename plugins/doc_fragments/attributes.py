# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that the collection's modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of all modules, of the info modules, and of the modules with the controller's options."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Runs in check mode, reports what it would change, and changes nothing.
  diff_mode:
    description: Returns the changes in diff mode. The diff of check mode is the same as that of the run.
  idempotent:
    description: A second run with the same options changes nothing.
  platform:
    description: The operating systems that the module supports.
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: The module only reads.
  diff_mode:
    support: N/A
    details: The module only reads.
  idempotent:
    support: N/A
    details: The module only reads.
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: >-
      Use C(group/jaywalking.mesh.jaywalk) in C(module_defaults) to set the controller and the zone once for
      a play.
    support: full
    membership:
      - jaywalking.mesh.jaywalk
"""
