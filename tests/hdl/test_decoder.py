# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The decoder against the instruction set: each legal extreme passes, each illegal value is refused."""

import random
from dataclasses import replace
from typing import Any

import pytest

from tilewright_hdl.config import PRESETS, AcceleratorConfig, BusConfig, LimitsConfig, PostConfig
from tilewright_hdl.decoder import Decoder
from tilewright_hdl.isa import INSTRUCTIONS, Exec, FieldSpec, Instruction, Load, Post, field_specs
from tilewright_hdl.isa_layout import instruction_layout
from tilewright_hdl.isa_limits import field_bits, field_range
from tilewright_hdl.legality import broken_rules
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.ports import FaultLayout
from tilewright_hdl.registers import ErrorCode
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

from .random_instructions import plain, random_legal, raw, representable

NANO = PRESETS["nano4"]
BARE = replace(
    NANO,
    array=replace(NANO.array, depthwise=False),
    post=PostConfig(lanes=2, multiplier_bits=18, roundings=(Rounding.SINGLE,), add=False, multiply=False, tables=0),
    bus=BusConfig(data_bits=256),
)
LEAN = replace(
    NANO,
    array=replace(NANO.array, depthwise=False),
    memory=replace(NANO.memory, activation_bytes=2048, weight_bytes=1024, parameter_groups=128),
    post=PostConfig(lanes=1, roundings=(Rounding.SINGLE,), add=False, multiply=False, tables=0),
    bus=BusConfig(data_bits=32, address_bits=17, burst_beats=16, windows=False),
    limits=LimitsConfig(address_bits=10, size_bits=9, kernel_bits=4),
    in_flight=1,
)
UNCHECKED = replace(LEAN, checks=False)
WIDE = replace(LEAN, bus=BusConfig(data_bits=256, address_bits=20), in_flight=2)


@bench(max_cycles=200_000)
async def bench_cases(tb: Testbench) -> None:
    """Feed each case to a fresh decoder, and log what it offers and what it reports."""
    tb.result = []
    for case in tb.parameters["cases"]:
        tb.dut.rst.value = 1
        await tb.cycles()
        tb.dut.rst.value = 0
        start = tb.cycle
        await tb.stream_put("i", case)
        offered, faults = [], []
        for _ in range(6):
            await tb.settle()
            if int(tb.dut.o__valid.value):
                offered.append([tb.cycle - start, int(tb.dut.o__payload.value)])
            if int(tb.dut.fault.value) & 1:
                faults.append(int(tb.dut.fault.value))
            await tb.cycles()
        ready = int(tb.dut.i__ready.value)
        tb.result.append({"offered": offered, "faults": faults, "ready": ready, "empty": int(tb.dut.empty.value)})


@bench(max_cycles=20_000)
async def bench_stream(tb: Testbench) -> None:
    beats, count, stall = tb.parameters["beats"], tb.parameters["count"], tb.parameters["stall"]
    _, tb.result = await tb.together(tb.stream_put("i", beats, stall=stall), tb.stream_get("o", count, stall=stall))


def beats(config: AcceleratorConfig, data: bytes) -> list[int]:
    size = config.bus.data_bytes
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]


def rtl_cases(config: AcceleratorConfig, cls: type[Instruction], cases: list[bytes]) -> list[dict[str, Any]]:
    parameters = {"cases": [beats(config, case) for case in cases]}
    return run_bench(Decoder(config, cls), __name__, "bench_cases", parameters=parameters)


def packed(config: AcceleratorConfig, instruction: Instruction) -> int:
    return instruction_layout(config, type(instruction)).const(plain(instruction)).as_bits()


def in_field(spec: FieldSpec, value: int) -> bool:
    low, high = representable(spec)
    return low <= value <= high


def each_extreme(config: AcceleratorConfig, cls: type[Instruction]) -> list[Instruction]:
    """One instruction for each end of each field's bits, and for its legal ends; the other fields are legal."""
    chance = random.Random(7)
    cases = []
    for spec in field_specs(cls):
        if spec.name in ("opcode", "index"):
            continue
        low, high = field_range(config, spec)
        beyond = {value for value in (low - 1, high + 1, high + 2) if in_field(spec, value)}
        for value in sorted({low, high, spec.low, spec.high, *representable(spec), *beyond}):
            instruction = random_legal(config, cls, chance)
            cases.append(raw(instruction, **{spec.name: value}))
    return cases


@pytest.mark.parametrize(("cls", "config"), [
    *((cls, NANO) for cls in INSTRUCTIONS), (Load, BARE), (Post, BARE), *((cls, LEAN) for cls in INSTRUCTIONS),
    (Post, WIDE), (Exec, WIDE),
])
def test_each_end_of_each_field(cls: type[Instruction], config: AcceleratorConfig) -> None:
    cases = each_extreme(config, cls)
    results = rtl_cases(config, cls, [case.encode() for case in cases])
    refused = 0
    for case, result in zip(cases, results, strict=True):
        if broken_rules(config, case):
            refused += 1
            fault = FaultLayout().from_bits(result["faults"][0])
            assert (len(result["faults"]), fault.code, fault.index) == (1, ErrorCode.FIELD, case.index)
            assert result["offered"] == [], f"offered {plain(case)}"
        else:
            assert result["faults"] == [], f"refused {plain(case)}"
            assert {payload for _, payload in result["offered"]} == {packed(config, case)}
            assert result["offered"][0][0] == Decoder(config, cls).delay
        assert (result["ready"], result["empty"]) == (0, 0)
    assert refused >= 4


@pytest.mark.parametrize("cls", INSTRUCTIONS)
def test_each_bit_that_has_no_register(cls: type[Instruction]) -> None:
    """Of each field the bits that the configuration drops: one that is not as it must be is enough."""
    cases, good = [], random_legal(LEAN, cls, random.Random(5))
    for spec in field_specs(cls):
        if spec.name != "opcode":
            cases += [encode_flipped(good, spec, place) for place in range(field_bits(LEAN, spec), spec.bits)]
    results = rtl_cases(LEAN, cls, [good.encode(), *cases])
    assert results[0]["faults"] == []
    assert len(cases) > 40
    for case, result in zip(cases, results[1:], strict=True):
        assert len(result["faults"]) == 1 and not result["offered"], case.hex()


@pytest.mark.parametrize("cls", INSTRUCTIONS)
def test_nothing_is_refused_without_checks(cls: type[Instruction]) -> None:
    """The bits that are kept are offered in the same cycle, whatever they are and whatever stands in the others."""
    chance = random.Random(11)
    good = random_legal(UNCHECKED, cls, chance)
    others = [spec for spec in field_specs(cls) if field_bits(UNCHECKED, spec) < spec.bits and spec.name != "opcode"]
    flipped = [encode_flipped(good, spec, spec.bits - 1) for spec in others]
    ends = each_extreme(UNCHECKED, cls)
    results = rtl_cases(UNCHECKED, cls, [good.encode(), *flipped, *(case.encode() for case in ends)])
    delay = Decoder(UNCHECKED, cls).delay
    for result in results:
        assert (result["faults"], result["offered"][0][0]) == ([], delay)
    for result in results[: 1 + len(flipped)]:
        assert {payload for _, payload in result["offered"]} == {packed(UNCHECKED, good)}
    assert sum(bool(broken_rules(UNCHECKED, case)) for case in ends) >= 4


def encode_flipped(instruction: Instruction, spec: FieldSpec, place: int) -> bytes:
    bits = int.from_bytes(instruction.encode(), "little") ^ 1 << spec.word * 32 + spec.offset + place
    return bits.to_bytes(type(instruction).BYTES, "little")


@bench(max_cycles=20_000)
async def bench_held(tb: Testbench) -> None:
    """Take each instruction at once, see what stands on the payload until it is said to be done, and how soon."""
    tb.dut.o__ready.value = 1
    feed = tb.start(tb.stream_put("i", tb.parameters["beats"]))
    tb.result = []
    for wait in tb.parameters["waits"]:
        offered = 0
        while not offered:
            await tb.settle()
            offered = int(tb.dut.o__valid.value)
            await tb.cycles()
        seen = set()
        for cycle in range(wait):
            tb.dut.retired.value = int(cycle == wait - 1)
            await tb.settle()
            assert not int(tb.dut.o__valid.value) and not int(tb.dut.i__ready.value) and not int(tb.dut.empty.value)
            seen.add(int(tb.dut.o__payload.value))
            await tb.cycles()
        tb.dut.retired.value = 0
        await tb.settle()
        assert int(tb.dut.i__ready.value) and int(tb.dut.empty.value)
        tb.result.append(sorted(seen))
        await tb.cycles()
    await feed


def test_an_instruction_stays_until_it_has_retired() -> None:
    chance = random.Random(9)
    instructions = [random_legal(LEAN, Post, chance) for _ in range(5)]
    data = [beat for instruction in instructions for beat in beats(LEAN, instruction.encode())]
    parameters = {"beats": data, "waits": [1, 2, 30, 7, 1]}
    assert run_bench(Decoder(LEAN, Post), __name__, "bench_held", parameters=parameters) == [
        [packed(LEAN, instruction)] for instruction in instructions
    ]


@pytest.mark.parametrize("cls", INSTRUCTIONS)
def test_bits_outside_of_fields(cls: type[Instruction]) -> None:
    fields = {bit for s in field_specs(cls) for bit in range(s.word * 32 + s.offset, s.word * 32 + s.offset + s.bits)}
    gaps = sorted(set(range(cls.BYTES * 8)) - fields)
    good = random_legal(NANO, cls, random.Random(1)).encode()
    cases = [(int.from_bytes(good, "little") | 1 << bit).to_bytes(cls.BYTES, "little") for bit in gaps]
    results = rtl_cases(NANO, cls, [good, *cases])
    assert results[0]["faults"] == []
    assert all(len(result["faults"]) == 1 and not result["offered"] for result in results[1:])


@pytest.mark.parametrize("stall", [0.0, 0.6])
@pytest.mark.parametrize("config", [NANO, BARE, WIDE], ids=["nano", "bare", "wide"])
def test_stream_of_instructions(config: AcceleratorConfig, stall: float) -> None:
    chance = random.Random(3)
    instructions = [random_legal(config, Post, chance) for _ in range(12)]
    data = [beat for instruction in instructions for beat in beats(config, instruction.encode())]
    parameters = {"beats": data, "count": len(instructions), "stall": stall}
    assert run_bench(Decoder(config, Post), __name__, "bench_stream", parameters=parameters) == [
        packed(config, instruction) for instruction in instructions
    ]
