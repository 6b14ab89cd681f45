# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Modules that are emitted once."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tilewright_hdl.array import SystolicArray
from tilewright_hdl.config import PRESETS, ArrayConfig
from tilewright_hdl.once import VerilogLibrary, emit_verilog, module_name, once
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench


class AddConstant(wiring.Component):
    """Input plus a constant, a cycle later; 0 after a reset."""

    i: Signal
    o: Signal

    def __init__(self, constant: int):
        self._constant = constant
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i + self._constant)
        return m


class Chain(wiring.Component):
    """Three adders in a row, reset by ``clear`` as well as by ``rst``."""

    i: Signal
    clear: Signal
    o: Signal

    def __init__(self, constant: int):
        self._constant = constant
        super().__init__({"i": In(8), "clear": In(1), "o": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.cleared = domain = ClockDomain("cleared")
        m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(self.clear)]
        make = once(platform, AddConstant, self._constant)
        value: Any = self.i
        for stage in range(3):
            adder = make()
            m.submodules[f"stage{stage}"] = DomainRenamer("cleared")(adder)
            m.d.comb += adder.i.eq(value)
            value = adder.o
        m.d.comb += self.o.eq(value)
        return m


def modules(text: str) -> list[str]:
    return re.findall(r"^module (\w+)", text, re.MULTILINE)


@bench(max_cycles=100)
async def chain(tb: Testbench) -> None:
    tb.result = []
    for clear in (0, 0, 0, 0, 1, 0, 0, 0):
        tb.dut.i.value = 1
        tb.dut.clear.value = clear
        await tb.cycles()
        tb.result.append(int(tb.dut.o.value))


def test_instances_work_and_are_reset_with_their_domain() -> None:
    text = emit_verilog(Chain(5), "dut")
    assert modules(text) == ["add_constant_5", "dut"]
    assert len(re.findall(r"^  add_constant_5 ", text, re.MULTILINE)) == 3
    # The first sums pass through stages that hold 0 since the reset.
    assert run_bench(text, __name__, "chain")[2:] == [16, 16, 0, 5, 10, 16]


def test_same_in_amaranths_simulator() -> None:
    dut = Chain(5)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    seen = []

    async def drive(ctx: Any) -> None:
        ctx.set(dut.i, 1)
        for _ in range(4):
            await ctx.tick()
            seen.append(ctx.get(dut.o))

    simulator.add_testbench(drive)
    simulator.run_until(1e-5)
    assert seen[2:] == [16, 16]


def test_array_has_one_tile() -> None:
    text = emit_verilog(SystolicArray(ArrayConfig(rows=8, columns=8)))
    assert modules(text)[0] == "tile_1_1_19_true_direct_0"
    assert len([name for name in modules(text) if name.startswith("tile")]) == 1
    assert len(re.findall(r"^  tile_1_1_19_true_direct_0 ", text, re.MULTILINE)) == 64
    # No state of a tile has a reset, so it has no such port.
    assert "rst" not in text.split("endmodule")[0]


def test_elaborations_do_not_mix() -> None:
    constants = [1, 2, 3, 1, 2, 3]
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda constant: emit_verilog(Chain(constant)), constants))
    for constant, text in zip(constants, texts, strict=True):
        assert modules(text) == [f"add_constant_{constant}", "top"]
        assert text == texts[constant - 1]


def test_names() -> None:
    config = PRESETS["nano4"]
    assert module_name(AddConstant, 3, True, "a-b") == "add_constant_3_true_a_b"
    assert module_name(AddConstant, config) == f"add_constant_{config.digest[:8]}"
    with pytest.raises(TypeError, match=r"must be an integer, a string or an AcceleratorConfig, not 1\.5"):
        module_name(AddConstant, 1.5)


def test_two_classes_of_one_name() -> None:
    library = VerilogLibrary()
    once(library, AddConstant, 1)
    other = type("AddConstant", (AddConstant,), {})
    with pytest.raises(ValueError, match="Module 'add_constant_1' must come from one class"):
        once(library, other, 1)


def test_name_of_the_top() -> None:
    with pytest.raises(ValueError, match="must not be that of a module below the component, was 'add_constant_5'"):
        emit_verilog(Chain(5), "add_constant_5")
