# SPDX-License-Identifier: Apache-2.0
"""What is taken out of a netlist, and what stays."""

import copy
import ctypes
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.hdl.dsp_blocks import ecp5_carry
from tilewright_boards.netlists import routable
from tilewright_hdl.errors import BuildError
from tilewright_sim.verilator import build_shared_library


def cell(kind: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **parameters: str) -> dict[str, Any]:
    return {"type": kind, "connections": inputs | outputs, "parameters": parameters,
            "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")}


def carry(cin: Any, s0: Any, cout: Any, init: str = "1001011010101010", **others: Any) -> dict[str, Any]:
    pins = {"A0": [10], "B0": [11], "C0": ["0"], "D0": ["1"], "A1": [12], "B1": [13], "C1": ["0"], "D1": ["1"]}
    return cell("CCU2C", pins | {"CIN": [cin]} | others, {"S0": [s0], "S1": [14], "COUT": [cout]},
                INIT0=init, INIT1=init, INJECT1_0="NO", INJECT1_1="NO")


def changed(tmp_path: Path, cells: dict[str, Any], outputs: list[int]) -> dict[str, Any]:
    path = tmp_path / "netlist.json"
    ports = {"o": {"direction": "output", "bits": outputs}}
    path.write_text(json.dumps({"modules": {"top": {"ports": ports, "cells": cells}}}))
    found: dict[str, Any] = json.loads(routable(path, "top"))["modules"]["top"]["cells"]
    return found


def test_carries_and_notes(tmp_path: Path) -> None:
    before = {
        "first": carry(7, 3, 2),
        "last": carry(2, 5, 4),
        "read": carry(7, 15, 6),
        "out": carry(7, 16, 9),
        "lut": cell("LUT4", {"A": [6], "B": [3]}, {"Z": [8]}),
        "note": cell("$scopeinfo", {}, {}),
    }
    cells = changed(tmp_path, copy.deepcopy(before), [9])
    assert {name: one["connections"].get("COUT") for name, one in cells.items()} == {
        "first": [2], "last": ["x"], "read": [6], "out": [9], "lut": None}
    assert {name for name, one in cells.items() if one != before[name]} == {"last"}


def test_beginnings_of_chains(tmp_path: Path) -> None:
    """Only a constant carry goes; only a sum that is read gets a LUT."""
    before = {
        "sum": carry("0", 3, 2),
        "bits": carry("1", 5, 4),
        "chosen": carry("0", 6, 7, C0=[20]),
        "net": carry(2, 8, 9),
        "injected": carry("0", 15, 16),
    }
    before["injected"]["parameters"]["INJECT1_0"] = "YES"
    cells = changed(tmp_path, copy.deepcopy(before), [2, 3, 4, 6, 7, 8, 9, 15, 16])
    assert list(cells) == [*before, "sum$sum"]
    assert [name for name in before if cells[name] != before[name]] == ["sum", "bits"]
    for name in ("sum", "bits"):
        assert cells[name]["connections"]["CIN"] == cells[name]["connections"]["S0"] == ["x"]
    assert cells["sum$sum"]["connections"]["Z"] == [3]


# All values of the operands, and of what comes in where nothing does.
_SHIM = """\
#include "Vtop.h"

extern "C" long differences() {
    Vtop top;
    long count = 0;
    for (int word = 0; word < 32; word++) {
        top.word = word;
        top.eval();
        count += top.differ;
    }
    return count;
}
"""


def instance(one: dict[str, Any], name: str, nets: dict[Any, str]) -> str:
    settings = ", ".join(f".{key}({f'16{chr(39)}b{value}' if key.startswith('INIT') else chr(34) + value + chr(34)})"
                         for key, value in one["parameters"].items())
    pins = ", ".join(f".{pin}({nets[bits[0]]})" for pin, bits in one["connections"].items())
    return f"{one['type']} #({settings}) {name} ({pins});"


def test_beginnings_compute_the_same(tmp_path: Path) -> None:
    """With Yosys' model of the cell, for adders, subtractors and any other functions."""
    rng = random.Random(5)
    cases = [("1001011010101010", cin, str(cin), "1") for cin in (0, 1)]
    cases += [(f"{rng.getrandbits(16):016b}", cin, *cd) for cin in (0, 1) for cd in ("00", "01", "10", "11") * 8]
    lines = []
    for place, (init, cin, c, d) in enumerate(cases):
        old = carry(str(cin), 20, 21, init, C0=[c], D0=[d])
        new = changed(tmp_path, {"dut": copy.deepcopy(old)}, [20, 21, 14])
        assert set(new) == {"dut", "dut$sum"}
        operands = {10 + bit: f"word[{bit}]" for bit in range(4)} | {"0": "1'b0", "1": "1'b1"}
        given, made = ({net: f"{side}[{3 * place + bit}]" for bit, net in enumerate((14, 20, 21))}
                       for side in ("given", "made"))
        new["dut"]["connections"].pop("S0")
        lines += [instance(old, f"old_{place}", operands | given),
                  instance(new["dut"], f"new_{place}", operands | made | {"x": "word[4]"}),
                  instance(new["dut$sum"], f"sum_{place}", operands | made)]
    top = "\n".join(["module dut (input [4:0] word, output differ);", f"  wire [{3 * len(cases) - 1}:0] given, made;",
                     "  assign differ = given != made;", *lines, "endmodule", ""])
    library = ctypes.CDLL(str(build_shared_library({"dut.v": top, "models.v": ecp5_carry()}, "dut", _SHIM)))
    library.differences.restype = ctypes.c_long
    assert library.differences() == 0


@pytest.mark.parametrize("text", ["{", "{}", '{"modules": {"other": {}}}'])
def test_no_netlist(tmp_path: Path, text: str) -> None:
    path = tmp_path / "netlist.json"
    path.write_text(text)
    with pytest.raises(BuildError, match="must be JSON of Yosys with the module 'top'"):
        routable(path, "top")
