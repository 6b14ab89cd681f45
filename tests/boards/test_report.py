# SPDX-License-Identifier: Apache-2.0
"""What nextpnr wrote, read; and what a netlist takes of a device."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.boards.small_board import NETLIST, REPORT, UNITS
from tilewright_boards.board import Device
from tilewright_boards.fit import logic_cells, lone_flip_flops, netlist_use
from tilewright_boards.report import module_of, read_report
from tilewright_boards.wrapper import DESIGN
from tilewright_hdl.errors import BuildError
from tilewright_hdl.targets import Target


def test_recorded_report() -> None:
    routed = read_report(REPORT, Target.ICE40, 12_000_000)
    [clock] = routed.clocks
    assert (clock.name, round(clock.asked_mhz, 3), round(clock.achieved_mhz, 3)) == ("board.clk", 12.0, 68.837)
    assert routed.met and routed.margin == pytest.approx(68.837 / 12, rel=1e-4)
    assert [(use.resource, use.used, use.available) for use in routed.uses] == [
        ("ICESTORM_LC", 99, 5280), ("SB_GB", 1, 8), ("SB_IO", 2, 39)]
    assert routed.luts == 99
    [path] = routed.paths  # The other one leaves the clock domain.
    assert [part.module for part in path.parts] == ["board.mixer"]
    assert path.delay_ns == pytest.approx(1e3 / 68.837, rel=1e-3)


def step(kind: str, cell: str, delay: float, net: str = "") -> dict[str, Any]:
    return {"type": kind, "delay": delay, "from": {"cell": cell}, "to": {"cell": "board.z$end"}, "net": net}


def test_paths_and_clocks(tmp_path: Path) -> None:
    """The tightest clock first, its path in modules; a domain without a constraint is asked for the board's clock."""
    steps = [step("clk-to-q", "board.a$x_FF", 1.0), step("routing", "board.a$x_FF", 2.0),
             step("logic", "$abc$17$lut", 0.5, "board.b$c$sum[3]"), step("setup", "board.b$c$sum_FF", 0.25)]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({
        "fmax": {"fast": {"achieved": 90.0, "constraint": 80.0}, "slow": {"achieved": 59.0}},
        "utilization": {"TRELLIS_COMB": {"used": 10, "available": 20}, "DP16KD": {"used": 0, "available": 4}},
        "critical_paths": [{"from": "posedge fast", "to": "posedge fast", "path": steps},
                           {"from": "posedge slow", "to": "posedge slow", "path": steps[:2]},
                           {"from": "<async>", "to": "posedge slow", "path": steps}]}))
    routed = read_report(path, Target.ECP5, 60_000_000)
    assert [(clock.name, clock.asked_mhz, clock.met) for clock in routed.clocks] == [
        ("slow", 60.0, False), ("fast", 80.0, True)]
    assert not routed.met and routed.margin == pytest.approx(59 / 60)
    assert [one.clock for one in routed.paths] == ["slow", "fast"]
    assert [(part.module, part.logic_ns, part.routing_ns) for part in routed.paths[1].parts] == [
        ("board.a", 1.0, 2.0), ("board.b.c", 0.75, 0.0)]
    assert [use.resource for use in routed.uses] == ["TRELLIS_COMB"]
    assert routed.luts == 10


@pytest.mark.parametrize(("name", "module"), [
    ("board.accelerator$core$exec$load_first_SB_LUT4_I2_3", "board.accelerator.core.exec"),
    ("board.core$array$tile_3.product_TRELLIS_FF_Q", "board.core.array.tile_3"),
    ("clocks.pll", "clocks"),
    ("rst", "(top)"),
    ("$abc$1$lut$2", "(top)"),
])
def test_modules(name: str, module: str) -> None:
    assert module_of(name) == module


@pytest.mark.parametrize("text", ["", "{}", '{"fmax": {}, "utilization": {}, "critical_paths": []}',
                                  '{"fmax": [], "utilization": {}, "critical_paths": []}'])
def test_what_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(BuildError, match="Report"):
        read_report(tmp_path / "report.json", Target.ECP5, 1)


def use(tmp_path: Path, target: Target, types: list[str], device: Device) -> dict[str, tuple[int, bool]]:
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": {"cells": {
        str(place): {"type": kind, "connections": {pin: [place] for pin in ("D", "F", "SUM")}}
        for place, kind in enumerate(types)}}}}))
    return {one.resource: (one.used, one.fits) for one in netlist_use(path, "top", target, device)}


def test_ecp5_use(tmp_path: Path) -> None:
    device = Device(name="x", luts=10, ffs=2, dsps=1, rams=1, units={name: name for name in UNITS})
    types = ["LUT4", "LUT4", "CCU2C", "TRELLIS_DPR16X4", "PFUMX", "L6MUX21", "TRELLIS_FF", "TRELLIS_FF", "MULT18X18D",
             "DP16KD", "PDPW16KD"]
    assert use(tmp_path, Target.ECP5, types, device) == {
        "luts": (10, True), "ffs": (2, True), "dsps": (1, True), "rams": (2, False)}


def test_gowin_use(tmp_path: Path) -> None:
    device = Device(name="x", luts=13, ffs=2, dsps=3, rams=3, units={name: name for name in UNITS})
    types = ["LUT1", "LUT4", "ALU", "RAM16SDP4", "MUX2_LUT5", "DFFR", "DFFSE", "MULT9X9", "MULT18X18", "SDPB", "SPX9",
             "DPB", "IBUF"]
    assert use(tmp_path, Target.GOWIN, types, device) == {
        "luts": (13, True), "ffs": (2, True), "dsps": (3, True), "rams": (3, True)}


def test_lone_flip_flops() -> None:
    """A flip-flop shares its place with the LUT or the carry that drives it, another one behind those does not."""
    ways = {"lut": ("LUT3", "F", 1), "alu": ("ALU", "SUM", 2), "mux": ("MUX2_LUT5", "O", 3)}
    cells = {name: {"type": kind, "connections": {pin: [bit]}} for name, (kind, pin, bit) in ways.items()}
    for place, (data, alone) in enumerate([(1, 0), (2, 0), (1, 1), (3, 2), (9, 3)]):
        cells[f"ff_{place}"] = {"type": "DFFRE", "connections": {"D": [data]}}
        assert lone_flip_flops(cells) == alone


def test_logic_cells() -> None:
    """A flip-flop shares a cell with a LUT that drives nothing else, a carry with the LUT of its operands."""
    cells: dict[str, Any] = dict(NETLIST["modules"][DESIGN]["cells"])
    assert logic_cells(cells) == 1
    pins = {"D": "input", "Q": "output"}
    cells["c"] = {"type": "SB_DFFE", "port_directions": pins, "connections": {"D": [6], "Q": [7]}}
    assert logic_cells(cells) == 2
    carry = {"I0": "input", "I1": "input", "CI": "input", "CO": "output"}
    cells["d"] = {"type": "SB_CARRY", "port_directions": carry, "connections": {"I0": [2], "I1": [3], "CI": [4],
                                                                                "CO": [8]}}
    assert logic_cells(cells) == 2
    cells["e"] = {"type": "SB_DFF", "port_directions": pins, "connections": {"D": [5], "Q": [9]}}
    assert logic_cells(cells) == 4  # The LUT has two readers now, so neither flip-flop can share its cell.
    cells["f"] = {"type": "SB_CARRY", "port_directions": carry, "connections": {"I0": [2], "I1": [3], "CI": [9],
                                                                                "CO": [10]}}
    assert logic_cells(cells) == 5
