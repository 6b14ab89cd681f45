# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The memory against a list, in Verilog and in Amaranth's simulator."""

import random
import re
from dataclasses import replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from tilewright_hdl.activation_memory import ActivationMemory
from tilewright_hdl.config import PRESETS
from tilewright_hdl.memory import Memory
from tilewright_hdl.once import emit_verilog

from .cycle_bench import rtl_cycles

SHAPES = [(2, 8, 1), (16, 24, 3), (64, 32, 2)]


def traffic(words: int, bits: int, groups: int) -> tuple[list[dict[str, int]], list[int | None]]:
    """Inputs of each cycle, and the data that a read granted in the cycle before gives."""
    chance = random.Random(words)
    contents = [0] * words
    inputs: list[dict[str, int]] = []
    expected: list[int | None] = [None]
    part = bits // groups
    for _ in range(600):
        address = chance.randrange(words)
        step = {
            "read__valid": chance.randint(0, 1), "read__address": chance.choice([address, chance.randrange(words)]),
            "write__valid": chance.randint(0, 1), "write__address": address,
            "write__data": chance.getrandbits(bits), "write__mask": chance.getrandbits(groups),
        }
        inputs.append(step)
        expected.append(contents[step["read__address"]] if step["read__valid"] else None)
        for group in range(groups):
            if step["write__valid"] and step["write__mask"] >> group & 1:
                field = ((1 << part) - 1) << group * part
                contents[address] = contents[address] & ~field | step["write__data"] & field
    return inputs, expected[:-1]


def assert_same(expected: list[int | None], got: list[int]) -> None:
    assert [None if e is None else g for e, g in zip(expected, got, strict=True)] == expected


@pytest.mark.parametrize(("shape", "apart"), [*((shape, 1) for shape in SHAPES), ((16, 24, 3), 3), ((8, 32, 4), 2)])
def test_in_verilog(shape: tuple[int, int, int], apart: int) -> None:
    inputs, expected = traffic(*shape)
    outputs = rtl_cycles(Memory(*shape, apart=apart), inputs, ["read__data", "read__ready", "write__ready"])
    assert all(o["read__ready"] and o["write__ready"] for o in outputs)
    assert_same(expected, [o["read__data"] for o in outputs])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_amaranth(shape: tuple[int, int, int]) -> None:
    inputs, expected = traffic(*shape)
    dut = Memory(*shape)
    got: list[int] = []

    async def process(ctx: Any) -> None:
        for step in inputs:
            for name, value in step.items():
                port, member = name.split("__")
                ctx.set(getattr(getattr(dut, port), member), value)
            got.append(ctx.get(dut.read.data))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(process)
    simulator.run()
    assert_same(expected, got)


@pytest.mark.parametrize("words", [1, 0, -4, True, 2.0])
def test_wrong_words(words: Any) -> None:
    with pytest.raises(ValueError) as error:
        Memory(words, 8)
    assert str(error.value) == f"words must be an integer of at least 2, not {words!r}"


def test_wrong_groups() -> None:
    with pytest.raises(ValueError, match=r"^groups must divide data_bits \(8\), not 3$"):
        Memory(4, 8, 3)


def test_wrong_apart() -> None:
    with pytest.raises(ValueError, match=r"^apart must divide groups, which are 4, not 3$"):
        Memory(4, 8, 4, apart=3)


@pytest.mark.parametrize(("pools", "add", "apart"), [(False, False, 1), (True, False, 4), (False, True, 4)])
def test_parts_that_are_read_while_others_are_written_lie_apart(pools: bool, add: bool, apart: int) -> None:
    """POST reads other parts of a word than it writes, if it reads activations at all."""
    nano = PRESETS["nano4"]
    post = replace(nano.post, lanes=1, pools=pools, add=add, multiply=False)
    text = emit_verilog(ActivationMemory(replace(nano, bus=replace(nano.bus, windows=False), post=post)))
    assert len(re.findall(r"\(\* no_rw_check \*\) reg", text)) == apart


def test_zeros_are_not_for_synthesis() -> None:
    """Yosys takes minutes to write out a loop over 8,192 words."""
    text = emit_verilog(Memory(8192, 64))
    assert "initial" in text
    assert "initial" not in re.sub(r"(?ms)^`ifndef SYNTHESIS$.*?^`endif$", "", text)
