# SPDX-License-Identifier: Apache-2.0
"""Carry cells before and after what is done to them, in Yosys' model of the cell."""

import copy
import ctypes
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.boards.cells import ADDS, carry, cell
from tests.hdl.dsp_blocks import ecp5_carry
from tilewright_boards.carries import begin_chains, take_in_luts
from tilewright_boards.netlists import readers
from tilewright_sim.verilator import build_shared_library

Cells = dict[str, Any]


def changed(change: Callable[[Cells, Counter[Any]], None], cells: Cells, outputs: list[int]) -> Cells:
    cells = copy.deepcopy(cells)
    read = readers(cells)
    read.update(outputs)
    change(cells, read)
    return cells


def test_beginnings_of_chains() -> None:
    """Only a constant carry goes; only a sum that is read gets a LUT."""
    before = {
        "sum": carry("0", 3, 2),
        "bits": carry("1", 5, 4),
        "chosen": carry("0", 6, 7, C0=[20]),
        "net": carry(2, 8, 9),
        "injected": carry("0", 15, 16),
    }
    before["injected"]["parameters"]["INJECT1_0"] = "YES"
    cells = changed(begin_chains, before, [2, 3, 4, 6, 7, 8, 9, 15, 16])
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
    for (int word = 0; word < 512; word++) {
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


def differences(cases: list[tuple[Cells, Cells]], outputs: tuple[int, int, int]) -> int:
    """Words of operands, bits from 10 on, with which any of the outputs is not the same before and after."""
    operands = {10 + bit: f"word[{bit}]" for bit in range(9)} | {"0": "1'b0", "1": "1'b1", "x": "word[8]"}
    lines, width = [], len(outputs) * len(cases)
    for place, cells in enumerate(cases):
        for side, some in zip(("given", "made"), cells, strict=True):
            nets = operands | {bit: f"{side}[{len(outputs) * place + at}]" for at, bit in enumerate(outputs)}
            inner = {bit for one in some.values() for bits in one["connections"].values() for bit in bits} - set(nets)
            lines += [f"wire {side}_{place}_{bit};" for bit in sorted(inner)]
            nets |= {bit: f"{side}_{place}_{bit}" for bit in inner}
            for number, one in enumerate(some.values()):
                kept = one | {"connections": {pin: bits for pin, bits in one["connections"].items()
                                              if one["port_directions"][pin] == "input" or bits != ["x"]}}
                lines.append(instance(kept, f"{side}_{place}_cell_{number}", nets))
    top = "\n".join(["module dut (input [8:0] word, output differ);", f"  wire [{width - 1}:0] given, made;",
                     "  assign differ = given != made;", *lines, "endmodule", ""])
    library = ctypes.CDLL(str(build_shared_library({"dut.v": top, "models.v": ecp5_carry()}, "dut", _SHIM)))
    library.differences.restype = ctypes.c_long
    found: int = library.differences()
    return found


def test_beginnings_compute_the_same() -> None:
    """For adders, subtractors and any other functions."""
    rng = random.Random(5)
    cases = [(ADDS, cin, str(cin), "1") for cin in (0, 1)]
    cases += [(f"{rng.getrandbits(16):016b}", cin, *cd) for cin in (0, 1) for cd in ("00", "01", "10", "11") * 8]
    pairs = []
    for init, cin, c, d in cases:
        old = {"dut": carry(str(cin), 20, 21, init, C0=[c], D0=[d])}
        new = changed(begin_chains, old, [20, 21, 14])
        assert set(new) == {"dut", "dut$sum"}
        pairs.append((old, new))
    # S1 of `carry` is an operand's number here.
    for cells in (cells for pair in pairs for cells in pair):
        cells["dut"]["connections"]["S1"] = [22]
    assert differences(pairs, (20, 21, 22)) == 0


def lut(bits: list[Any], table: int, output: int) -> dict[str, Any]:
    pins = {pin: [bit] for pin, bit in zip("ABCD", [*bits, *(4 * "0")], strict=False)}
    return cell("LUT4", pins, {"Z": [output]}, INIT=f"{table:016b}")


def test_gates_and_choices_are_taken_in() -> None:
    """A gate at either operand of a sum, a choice of two at one, and what adds nothing but its carry."""
    gate, choice, wide = 0x8888, 0xCACA, 0x8000
    for name, before, left in (
        ("gate", {"lut": lut([15, 16], gate, 30), "sum": carry(18, 20, 21, A0=[30])}, set()),
        ("gate, B", {"lut": lut([15, 16], gate, 30), "sum": carry(18, 20, 21, B0=[30])}, set()),
        ("choice", {"lut": lut([15, 16, 17], choice, 30), "sum": carry(18, 20, 21, B1=[30])}, set()),
        ("shared", {"lut": lut([10, 15, 16], choice, 30), "sum": carry(18, 20, 21, B0=[30])}, set()),
        ("four", {"lut": lut([13, 14, 15, 16], wide, 30), "sum": carry(18, 20, 21, B0=[30])}, {"lut"}),
        ("read", {"lut": lut([15, 16], gate, 30), "sum": carry(18, 20, 21, B0=[30], B1=[30])}, {"lut"}),
    ):
        before["sum"]["connections"]["S1"] = [22]
        after = changed(take_in_luts, before, [20, 21, 22])
        assert set(after) == {"sum"} | left, name
        assert (after == before) == bool(left), name


def test_a_lut_that_is_read_outside_stays() -> None:
    before = {"lut": lut([15, 16], 0x8888, 22), "sum": carry(18, 20, 21, A0=[22])}
    assert changed(take_in_luts, before, [20, 21, 22]) == before


def test_halves_with_luts_compute_the_same() -> None:
    """Sums and any other functions, of operands from LUTs of any functions."""
    rng = random.Random(7)
    pairs, fewer = [], 0
    for case in range(400):
        init = ADDS if case % 2 else f"{rng.getrandbits(16):016b}"
        pins = {"A0": [30], "B0": [rng.choice([10, 31])], "A1": [14], "B1": [32]}
        pins |= {pin: [rng.choice(["0", "1"])] for pin in ("C0", "D0", "C1", "D1")} if init != ADDS else {}
        dut = carry(18, 20, 21, init, **pins)
        dut["connections"]["S1"] = [22]
        before = {"dut": dut}
        for output, bits in ((30, (10, 11, 12, 13)), (31, (11, 12, 13)), (32, (14, 15, 16, 17))):
            some = rng.sample(bits, rng.randint(1, 3))
            table = rng.choice([0x8888, 0x6666, 0xEEEE, 0xCACA, 0x7777, 0x5555, rng.getrandbits(16)])
            if [output] in pins.values():
                before[f"lut_{output}"] = lut(some, table, output)
        after = changed(take_in_luts, before, [20, 21, 22])
        fewer += len(before) - len(after)
        pairs.append((before, after))
    assert fewer > 200
    assert differences(pairs, (20, 21, 22)) == 0
