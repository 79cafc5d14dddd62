# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``jaywalk-supervisor``."""

API_ADDRESS = "127.0.0.1:8080"
