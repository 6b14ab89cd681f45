# SPDX-License-Identifier: Apache-2.0
"""LOAD against a model in plain Python: every memory, every kind of stall, errors, and its exact cycles."""

import dataclasses
import itertools
import random
from typing import Any

import pytest

from tests.hdl.bus_bench import BASES, CONFIGS, Log, ReadSide, beat_image, payload, places, transfers, verilog_of
from tilewright_hdl.bus_timing import load_cycles, memory_sizes, transfer_bursts
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory, Segment
from tilewright_hdl.load_writer import load_memories
from tilewright_hdl.registers import ErrorCode
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

LATENCY = 32


def ref_load(config: AcceleratorConfig, loads: list[Load], image: bytes) -> dict[str, dict[str, int]]:
    """The words that are written, by memory and address; lanes that no window has written are zero."""
    written: dict[str, dict[str, int]] = {memory.name: {} for memory in Memory}
    for load in loads:
        if load.window:
            ref_windows(load, image, written[Memory.ACTIVATION.name])
            continue
        word_bytes = load_memories(config)[Memory(load.memory)].data_bits // 8
        for dram, word in places(config, load):
            data = int.from_bytes(image[dram : dram + word_bytes], "little")
            written[Memory(load.memory).name][str(word)] = data
    return written


def ref_windows(load: Load, image: bytes, written: dict[str, int]) -> None:
    """Windows, byte for byte as the instruction set says."""
    base = BASES[Segment(load.segment)] + load.dram_address
    for y, x, lane in itertools.product(range(load.rows), range(load.words), range(load.lanes)):
        lane += load.first_lane
        at = load.row_start + x * load.row_step + lane
        byte = image[base + y * load.dram_stride + at] if 0 <= at < load.row_bytes else load.pad_value & 0xFF
        word = str(load.address + y * load.stride + x * load.step)
        written[word] = written.get(word, 0) & ~(0xFF << 8 * lane) | byte << 8 * lane


def rtl_load(config: AcceleratorConfig, loads: list[Load], **parameters: Any) -> dict[str, Any]:
    """Run LOADs; ``parameters`` choose the main memory (see ``axi_memory``) and ``stall``, the write ports'."""
    defaults = {
        "instructions": [payload(config, load) for load in loads], "memory": "model", "latency": LATENCY, "stall": 0.0,
        "in_flight": config.in_flight, "halt_at": None,
    }
    verilog = verilog_of(ReadSide, config)
    result: dict[str, Any] = run_bench(verilog, __name__, "bench_load", parameters=defaults | parameters)
    return result


@bench(max_cycles=20_000)
async def bench_load(tb: Testbench) -> None:
    from tests.hdl.axi_memory import Monitor, main_memory

    dut, parameters = tb.dut, tb.parameters
    dut.load_constant_base.value = BASES[Segment.CONSTANT]
    dut.load_arena_base.value = BASES[Segment.ARENA]
    written: dict[str, dict[int, int]] = {memory.name: {} for memory in Memory}
    memory = main_memory(tb, bytearray(beat_image()))
    memory.start()
    monitor = Monitor(tb)
    tb.start(monitor.run())
    log = Log(tb, "load_")
    tb.start(log.run())
    for port in Memory:
        tb.start(_write_port(tb, port.name, written[port.name]))
    instructions = parameters["instructions"]
    if parameters["halt_at"] is not None:
        tb.start(_halt(tb, parameters["halt_at"]))
    offer = tb.start(_offer(tb, log))
    while len(log.done) < len(instructions) and not log.faults and not int(dut.load_halt.value):
        await tb.cycles()
    await log.idle()
    offer.cancel()
    tb.result = log.report() | {"written": written, "beats": monitor.beats, "bursts": monitor.bursts,
                                "taken": tb.transfers.get("load_instruction", [])}


async def _offer(tb: Testbench, log: Log) -> None:
    for number, instruction in enumerate(tb.parameters["instructions"]):
        while number - len(log.done) >= tb.parameters["in_flight"]:
            await tb.cycles()
        await tb.stream_put("load_instruction", [instruction])


async def _halt(tb: Testbench, cycles: int) -> None:
    await tb.cycles(cycles)
    tb.dut.load_halt.value = 1


async def _write_port(tb: Testbench, name: str, written: dict[int, int]) -> None:
    chance = random.Random(name)
    valid, ready, address, data = (getattr(tb.dut, f"load_{name.lower()}__{what}")
                                   for what in ("valid", "ready", "address", "data"))
    mask = getattr(tb.dut, f"load_{name.lower()}__mask")
    while True:
        ready.value = int(chance.random() >= tb.parameters["stall"])
        await tb.settle()
        if int(valid.value) and int(ready.value):
            part = len(data) // len(mask)
            lanes = sum((1 << part) - 1 << part * lane for lane in range(len(mask)) if int(mask.value) >> lane & 1)
            word = int(address.value)
            written[word] = written.get(word, 0) & ~lanes | int(data.value) & lanes
        await tb.cycles()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "bus",
    [
        {"memory": "model", "latency": 1, "stall": 0.6},
        {"memory": "model", "latency": 5, "period": 3},
        {"memory": "axi", "pause": 0.0},
        {"memory": "axi", "pause": 0.4, "stall": 0.4},
    ],
)
def test_words(name: str, bus: dict[str, Any]) -> None:
    config = CONFIGS[name]
    loads = transfers(config, Load, 9, seed=len(bus), memories=tuple(Memory))
    result = rtl_load(config, loads, **bus)
    assert result["faults"] == []
    assert len(result["done"]) == len(loads)
    assert result["written"] == ref_load(config, loads, beat_image())


@pytest.mark.parametrize(("name", "period"), [("nano", 1), ("nano", 2), ("long", 1), ("short", 1),
                                             ("single", 1), ("single-long", 2)])
def test_cycles(name: str, period: int) -> None:
    config = CONFIGS[name]
    loads = transfers(config, Load, 8, seed=1, memories=tuple(Memory))
    loads.append(dataclasses.replace(loads[0], memory=Memory.ACTIVATION, words=200, rows=1, address=0))
    result = rtl_load(config, loads, in_flight=1, period=period)
    cycles = [done - taken for taken, done in zip(result["taken"], result["done"], strict=True)]
    expected = [load_cycles(config, load, latency=LATENCY, period=period, base=BASES[Segment(load.segment)])
                for load in loads]
    assert cycles == expected
    beats = sum(sum(transfer_bursts(config, load, BASES[Segment(load.segment)])) for load in loads)
    assert result["stalls"] == sum(cycles) - beats


def test_instructions_follow_without_a_gap() -> None:
    config = CONFIGS["short"]
    loads = [dataclasses.replace(load, rows=2, words=20, address=0) for load in
             transfers(config, Load, 12, seed=3, memories=[Memory.ACTIVATION])]
    result = rtl_load(config, loads)
    first = result["beats"][0]
    assert result["beats"] == list(range(first, first + 12 * 40))


def _after_fault(config: AcceleratorConfig, loads: list[Load], result: dict[str, Any]) -> None:
    """What was written is right, and every burst that was asked for has been read to its end."""
    expected = ref_load(config, loads, beat_image())
    for memory, words in result["written"].items():
        assert words.items() <= expected[memory].items()
    assert len(result["beats"]) == sum(beats for _, beats in result["bursts"])


@pytest.mark.parametrize(
    ("name", "number", "bus"),
    [
        ("nano", 0, {"memory": "model"}),
        ("nano", 3, {"memory": "axi", "pause": 0.3, "stall": 0.3}),
        ("long", 3, {"memory": "model"}),
        ("single", 3, {"memory": "axi", "pause": 0.3, "stall": 0.3}),
        ("short", 3, {"memory": "axi", "pause": 0.3, "stall": 0.3}),
    ],
)
def test_error_response(name: str, number: int, bus: dict[str, Any]) -> None:
    config = CONFIGS[name]
    # In places of their own, so that the error is met by one instruction only.
    loads = [dataclasses.replace(load, dram_address=0x600 * n, segment=Segment.CONSTANT, rows=1, words=9)
             for n, load in enumerate(transfers(config, Load, 6, seed=7, memories=[Memory.WEIGHT, Memory.ACTIVATION]))]
    addresses = [dram for dram, _ in places(config, loads[number])]
    result = rtl_load(config, loads, errors=[addresses[5]], **bus)
    assert result["faults"] == [[ErrorCode.READ, loads[number].index]]
    assert len(result["done"]) == number
    _after_fault(config, loads, result)


@pytest.mark.parametrize("memory", Memory)
def test_word_outside_of_a_memory(memory: Memory) -> None:
    config = CONFIGS["nano"]
    size, _ = memory_sizes(config)[memory]
    good = Load(memory=memory, dram_address=0, segment=0, address=0, words=3, index=4)
    across = Load(memory=memory, dram_address=64, segment=0, address=size - 2, words=8, index=5)
    loads = [good, across, dataclasses.replace(good, index=6, address=3)]
    result = rtl_load(config, loads)
    assert result["faults"] == [[ErrorCode.ADDRESS, 5]]
    assert sorted(map(int, result["written"][memory.name])) == [0, 1, 2, size - 2, size - 1]
    _after_fault(config, loads, result)


def test_addresses_do_not_wrap_into_the_memory() -> None:
    config = CONFIGS["nano"]
    load = Load(memory=Memory.WEIGHT, dram_address=0, segment=0, address=8, words=1, rows=2, stride=(1 << 20) - 8,
                index=9)
    result = rtl_load(config, [load])
    assert result["faults"] == [[ErrorCode.ADDRESS, 9]]
    assert list(result["written"]["WEIGHT"]) == ["8"]


@pytest.mark.parametrize(
    ("halt_at", "bus"),
    [(3, {"memory": "model"}), (9, {"memory": "axi", "pause": 0.4}), (38, {"memory": "model"}),
     (60, {"memory": "axi", "pause": 0.4})],
)
def test_halt(halt_at: int, bus: dict[str, Any]) -> None:
    config = CONFIGS["nano"]
    loads = transfers(config, Load, 6, seed=2, memories=[Memory.ACTIVATION, Memory.WEIGHT])
    result = rtl_load(config, loads, halt_at=halt_at, **bus)
    assert result["faults"] == []
    assert len(result["done"]) < len(loads)
    _after_fault(config, loads, result)
