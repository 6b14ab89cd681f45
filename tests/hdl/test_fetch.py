# SPDX-License-Identifier: Apache-2.0
"""FETCH: each engine's queue gets its instructions whole and in order; whatever is damaged is named by its place."""

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.hdl.bus_bench import CONFIGS, ReadSide, beat_image, verilog_of
from tilewright_hdl.bus_timing import FETCH_BURSTS, fetch_cycles
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import ENGINES, INSTRUCTIONS, Exec, Instruction, Load, Post, Store, encode_program
from tilewright_hdl.registers import ErrorCode
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

LATENCY = 32
# Without queues, on a bus of 32 and of 64 bits.
ALL = CONFIGS | {f"direct {name}": replace(CONFIGS[name], queue_instructions=1) for name in ("nano", "short")}


def program(count: int, seed: int = 1) -> tuple[list[Instruction], bytes]:
    """Random instructions of all kinds, whole, with their encoding."""
    chance = random.Random(seed)
    kinds: list[Instruction] = [
        Load(dram_address=0x1234, segment=1, address=7, words=5),
        Store(dram_address=0x7654, segment=0, address=9, words=3),
        Exec(input_address=1, bank=1, weight_address=2, output_height=3, output_width=4, input_height=5,
             input_width=6),
        Post(source=1, source_address=3, source_height=1, source_width=1, output_height=1, output_width=1,
             output_address=3, groups=2),
    ]
    instructions = kinds + [chance.choice(kinds) for _ in range(count - len(kinds))]
    return instructions, encode_program(instructions)


def starts(instructions: list[Instruction]) -> list[int]:
    """Offset of each instruction, and the end."""
    offsets = [0]
    for instruction in instructions:
        offsets.append(offsets[-1] + instruction.BYTES)
    return offsets


def ref_fetch(config: AcceleratorConfig, code: bytes, instructions: list[Instruction], count: int) -> list[list[int]]:
    """Beats that each engine gets of the first ``count`` instructions."""
    beats: list[list[int]] = [[] for _ in ENGINES]
    size = config.bus.data_bytes
    for start, instruction in zip(starts(instructions), instructions[:count], strict=False):
        for offset in range(start, start + instruction.BYTES, size):
            beats[instruction.ENGINE].append(int.from_bytes(code[offset : offset + size], "little"))
    return beats


def rtl_fetch(config: AcceleratorConfig, code: bytes, **parameters: Any) -> dict[str, Any]:
    """Fetch a program; ``parameters`` choose the main memory, and how the queues ``stall``."""
    defaults = {"code": code.hex(), "bytes": len(code), "address": 0x1000 - 2 * config.bus.data_bytes,
                "memory": "model", "latency": LATENCY, "stall": 0.0, "halt_at": None,
                "direct": config.queue_instructions == 1, "beats": [cls.BYTES // config.bus.data_bytes
                                                                    for cls in INSTRUCTIONS]}
    verilog = verilog_of(ReadSide, config)
    result: dict[str, Any] = run_bench(verilog, __name__, "bench_fetch", parameters=defaults | parameters)
    return result


@bench(max_cycles=20_000)
async def bench_fetch(tb: Testbench) -> None:
    from tests.hdl.axi_memory import Monitor, main_memory

    dut, parameters = tb.dut, tb.parameters
    image = bytearray(beat_image())
    code = bytes.fromhex(parameters["code"])
    image[parameters["address"] : parameters["address"] + len(code)] = code
    main_memory(tb, image).start()
    monitor = Monitor(tb)
    tb.start(monitor.run())
    queues: list[list[int]] = [[] for _ in ENGINES]
    first: list[int] = []
    for engine in ENGINES:
        tb.start(_queue(tb, engine, queues[engine], first))
    await tb.cycles(2)
    dut.fetch_start.value = 1
    dut.fetch_program_address.value = parameters["address"]
    dut.fetch_program_bytes.value = parameters["bytes"]
    start = tb.cycle
    await tb.cycles()
    dut.fetch_start.value = 0
    if not parameters["direct"]:
        dut.fetch_program_address.value = dut.fetch_program_bytes.value = 0
    faults: list[tuple[int, int]] = []
    quiet, finished = 0, None
    while quiet < 60:
        dut.fetch_halt.value = int(parameters["halt_at"] is not None and tb.cycle - start >= parameters["halt_at"])
        await tb.settle()
        fault = int(dut.fetch_fault.value)
        if fault & 1:
            faults.append((fault >> 1 & 15, fault >> 5))
        if int(dut.fetch_finished.value) and finished is None:
            finished = tb.cycle
        over = finished is not None or faults or int(dut.fetch_halt.value)
        quiet = quiet + 1 if over and not int(dut.fetch_busy.value) else 0
        await tb.cycles()
    tb.result = {"queues": queues, "faults": faults, "finished": finished is not None, "bursts": monitor.bursts,
                 "beats": len(monitor.beats), "first": first[0] - start if first else None}


async def _queue(tb: Testbench, engine: int, taken: list[int], first: list[int]) -> None:
    payload, valid, ready = (getattr(tb.dut, f"fetch_queues__{engine}__{what}")
                             for what in ("payload", "valid", "ready"))
    chance = random.Random(engine)
    direct, beats = tb.parameters["direct"], tb.parameters["beats"][engine]
    ended = 0
    while tb.parameters["stall"] < 1:
        # Long pauses: a queue that is full.
        pause = chance.randint(1, 60) if chance.random() < tb.parameters["stall"] else 0
        if direct and len(taken) - ended < beats:
            # A decoder that is ready stays so until it has a whole instruction.
            pause = 0
        elif direct:
            ended = len(taken)
        ready.value = int(not pause)
        for _ in range(pause):
            await tb.cycles()
        ready.value = 1
        await tb.settle()
        if int(valid.value):
            first.append(tb.cycle)
            taken.append(int(payload.value))
        await tb.cycles()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bus", [{"memory": "model"}, {"memory": "axi", "pause": 0.4, "stall": 0.05}])
def test_program(name: str, bus: dict[str, Any]) -> None:
    config = ALL[name]
    instructions, code = program(24)
    result = rtl_fetch(config, code, **bus)
    assert result["faults"] == []
    assert result["finished"]
    assert result["queues"] == ref_fetch(config, code, instructions, len(instructions))
    if bus["memory"] == "model":
        assert result["first"] == fetch_cycles(config, LATENCY)


@pytest.mark.parametrize("name", ["nano", "direct nano"])
def test_empty_program(name: str) -> None:
    result = rtl_fetch(ALL[name], b"")
    assert result["finished"]
    assert (result["bursts"], result["faults"]) == ([], [])


@pytest.mark.parametrize(
    ("name", "at", "flip", "code"),
    [
        ("nano", 0, 0x0F, ErrorCode.OPCODE),
        ("nano", 2, 0x01, ErrorCode.INDEX),
        ("short", 1, 0x10, ErrorCode.INDEX),
        ("direct nano", 0, 0x0F, ErrorCode.OPCODE),
        ("direct short", 3, 0x80, ErrorCode.INDEX),
    ],
)
def test_damaged_head(name: str, at: int, flip: int, code: ErrorCode) -> None:
    config = ALL[name]
    instructions, encoded = program(9)
    damaged = bytearray(encoded)
    damaged[starts(instructions)[6] + at] ^= flip
    result = rtl_fetch(config, bytes(damaged))
    assert result["faults"] == [[code, 6]]
    assert not result["finished"]
    assert result["queues"] == ref_fetch(config, encoded, instructions, 6)
    assert result["beats"] == sum(beats for _, beats in result["bursts"])


@pytest.mark.parametrize("name", ["short", "direct short"])
@pytest.mark.parametrize("missing", [1, 31])
def test_end_inside_an_instruction(missing: int, name: str) -> None:
    config = ALL[name]
    instructions, encoded = program(5)
    result = rtl_fetch(config, encoded, bytes=len(encoded) - missing)
    assert result["faults"] == [[ErrorCode.OPCODE, 4]]
    assert result["queues"] == ref_fetch(config, encoded, instructions, 4)


@pytest.mark.parametrize("name", ["nano", "direct nano"])
@pytest.mark.parametrize("bus", [{"memory": "model"}, {"memory": "axi", "pause": 0.3, "stall": 0.05}])
def test_error_response(bus: dict[str, Any], name: str) -> None:
    config = ALL[name]
    instructions, encoded = program(9)
    address = 0x1000
    result = rtl_fetch(config, encoded, address=address, errors=[address + starts(instructions)[5] + 4], **bus)
    assert result["faults"] == [[ErrorCode.FETCH, 5]]
    # One beat of the sixth instruction was passed on before the error came.
    expected = ref_fetch(config, encoded, instructions, 6)
    engine = instructions[5].ENGINE
    expected[engine] = expected[engine][: 1 - instructions[5].BYTES // config.bus.data_bytes]
    assert result["queues"] == expected
    assert result["beats"] == sum(beats for _, beats in result["bursts"])


@pytest.mark.parametrize(("name", "most"), [
    ("nano", FETCH_BURSTS * CONFIGS["nano"].bus.burst_beats), ("direct nano", 1),
])
def test_no_more_is_asked_for_than_fits(name: str, most: int) -> None:
    _, encoded = program(24)
    # No queue takes anything.
    result = rtl_fetch(ALL[name], encoded, stall=1.0, halt_at=400)
    assert sum(beats for _, beats in result["bursts"]) <= most
    assert result["beats"] == sum(beats for _, beats in result["bursts"])


@pytest.mark.parametrize(("name", "halt_at"), [
    ("nano", 1), ("nano", 45), ("direct nano", 1), ("direct nano", 45), ("direct nano", 75),
])
def test_halt(name: str, halt_at: int) -> None:
    _, encoded = program(24)
    result = rtl_fetch(ALL[name], encoded, halt_at=halt_at)
    assert result["faults"] == []
    assert result["beats"] == sum(beats for _, beats in result["bursts"])
    assert len(result["bursts"]) <= FETCH_BURSTS + 1
