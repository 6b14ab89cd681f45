# SPDX-License-Identifier: Apache-2.0
"""What the Verilog is written for. No number of a configuration and no cycle depends on it."""

from enum import StrEnum

__all__ = ["Target"]


class Target(StrEnum):
    """Where the Verilog goes: any simulator and any process, or FPGAs whose multipliers it names.

    Members
    -------
    GENERIC
        Plain Verilog.
    ECP5
        ``MULT18X18D``: one product, or the two of a pair.
    ICE40
        ``SB_MAC16`` (UltraPlus), with two products.
    GOWIN
        ``MULT9X9``: one product.
    """

    GENERIC = "generic"
    ECP5 = "ecp5"
    ICE40 = "ice40"
    GOWIN = "gowin"
