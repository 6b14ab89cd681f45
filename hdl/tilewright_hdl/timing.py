# SPDX-License-Identifier: Apache-2.0
"""Latencies of the hardware in cycles, from the configuration.

The hardware's ``delay`` properties and the cycle model of the simulator both take their numbers from here, so that
they cannot drift. Nothing here imports Amaranth.
"""

__all__ = ["IN_FLIGHT"]

IN_FLIGHT = 4
"""Instructions that an engine may have been given and not finished."""
