# SPDX-License-Identifier: Apache-2.0
"""STORE against a model in plain Python: pauses on every channel, late grants, errors, and its exact cycles."""

import dataclasses
import random
from typing import Any

import pytest

from tests.hdl.bus_bench import BASES, CONFIGS, IMAGE_BYTES, Log, beat_image, payload, places, transfers, verilog_of
from tilewright_hdl.bus_timing import store_cycles, transfer_bursts
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Memory, Segment, Store
from tilewright_hdl.registers import ErrorCode
from tilewright_hdl.store_engine import StoreEngine
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

LATENCY = 32


def scratchpad(config: AcceleratorConfig) -> list[bytes]:
    """Words of the activation scratchpad: noise."""
    chance = random.Random(11)
    return [chance.randbytes(config.array.rows) for _ in range(config.activation_words)]


def stores(config: AcceleratorConfig, count: int, seed: int) -> list[Store]:
    found: list[Store] = transfers(config, Store, count, seed, memories=[Memory.ACTIVATION])
    return found


def ref_store(config: AcceleratorConfig, instructions: list[Store]) -> bytes:
    """Main memory afterwards. A word's last beat is filled up with zeros."""
    image = bytearray(beat_image())
    words = scratchpad(config)
    padded = config.beats(config.array.rows) * config.bus.data_bytes
    for store in instructions:
        for dram, word in places(config, store):
            image[dram : dram + padded] = words[word].ljust(padded, b"\0")
    return bytes(image)


def rtl_store(config: AcceleratorConfig, instructions: list[Store], **parameters: Any) -> dict[str, Any]:
    """Run STOREs; ``parameters`` choose the main memory (see ``axi_memory``) and ``stall``, that of the grants."""
    defaults = {
        "instructions": [payload(config, store) for store in instructions],
        "words": [w.hex() for w in scratchpad(config)],
        "memory": "model", "latency": LATENCY, "stall": 0.0, "in_flight": config.in_flight, "halt_at": None,
    }
    verilog = verilog_of(StoreEngine, config)
    result: dict[str, Any] = run_bench(verilog, __name__, "bench_store", parameters=defaults | parameters)
    return result


@bench(max_cycles=20_000)
async def bench_store(tb: Testbench) -> None:
    from tests.hdl.axi_memory import Monitor, main_memory

    dut, parameters = tb.dut, tb.parameters
    dut.constant_base.value = BASES[Segment.CONSTANT]
    dut.arena_base.value = BASES[Segment.ARENA]
    memory = main_memory(tb, bytearray(beat_image()))
    memory.start()
    monitor = Monitor(tb)
    tb.start(monitor.run())
    log = Log(tb)
    tb.start(log.run())
    tb.start(_read_port(tb))
    if parameters["halt_at"] is not None:
        tb.start(_halt(tb, parameters["halt_at"]))
    offer = tb.start(_offer(tb, log))
    while len(log.done) < len(parameters["instructions"]) and not log.faults and not int(dut.halt.value):
        await tb.cycles()
    await log.idle()
    offer.cancel()
    tb.result = log.report() | {"image": memory.image.hex(), "beats": monitor.beats,
                                "bursts": monitor.bursts, "taken": tb.transfers.get("instruction", [])}


async def _offer(tb: Testbench, log: Log) -> None:
    for number, instruction in enumerate(tb.parameters["instructions"]):
        while number - len(log.done) >= tb.parameters["in_flight"]:
            await tb.cycles()
        await tb.stream_put("instruction", [instruction])


async def _halt(tb: Testbench, cycles: int) -> None:
    await tb.cycles(cycles)
    tb.dut.halt.value = 1


async def _read_port(tb: Testbench) -> None:
    """The word is there for one cycle only; noise before and after."""
    dut = tb.dut
    words = [int.from_bytes(bytes.fromhex(word), "little") for word in tb.parameters["words"]]
    chance = random.Random(3)
    while True:
        dut.activation__ready.value = int(chance.random() >= tb.parameters["stall"])
        await tb.settle()
        granted = int(dut.activation__valid.value) and int(dut.activation__ready.value)
        word = words[int(dut.activation__address.value)] if granted else chance.choice(words)
        await tb.cycles()
        dut.activation__data.value = word


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "bus",
    [
        {"memory": "model", "latency": 1, "stall": 0.6},
        {"memory": "model"},
        {"memory": "axi", "pause": 0.0},
        {"memory": "axi", "pause": 0.4, "stall": 0.4},
    ],
)
def test_words(name: str, bus: dict[str, Any]) -> None:
    config = CONFIGS[name]
    instructions = stores(config, 9, seed=len(bus))
    result = rtl_store(config, instructions, **bus)
    assert result["faults"] == []
    assert len(result["done"]) == len(instructions)
    assert bytes.fromhex(result["image"]) == ref_store(config, instructions)


@pytest.mark.parametrize("name", CONFIGS)
def test_cycles(name: str) -> None:
    config = CONFIGS[name]
    instructions = stores(config, 8, seed=1)
    instructions.append(dataclasses.replace(instructions[0], words=200, rows=1, address=0))
    result = rtl_store(config, instructions, in_flight=1)
    cycles = [done - taken for taken, done in zip(result["taken"], result["done"], strict=True)]
    bases = [BASES[Segment(store.segment)] for store in instructions]
    assert cycles == [store_cycles(config, store, latency=LATENCY, base=base)
                      for store, base in zip(instructions, bases, strict=True)]
    beats = sum(sum(transfer_bursts(config, store, base)) for store, base in zip(instructions, bases, strict=True))
    assert result["stalls"] == sum(cycles) - beats


def test_instructions_follow_without_a_gap() -> None:
    config = CONFIGS["short"]
    instructions = [dataclasses.replace(store, rows=2, words=20, address=0) for store in stores(config, 12, seed=3)]
    result = rtl_store(config, instructions)
    first = result["beats"][0]
    assert result["beats"] == list(range(first, first + 12 * 40))


def _bursts_are_whole(result: dict[str, Any]) -> None:
    assert len(result["beats"]) == sum(beats for _, beats in result["bursts"])


def _only_right_bytes(config: AcceleratorConfig, instructions: list[Store], result: dict[str, Any]) -> None:
    """Each byte is what it was, or what an instruction makes of it."""
    before, after, found = beat_image(), ref_store(config, instructions), bytes.fromhex(result["image"])
    assert len(found) == IMAGE_BYTES
    assert all(byte in choice for byte, choice in zip(found, zip(before, after, strict=True), strict=True))


@pytest.mark.parametrize(
    ("name", "number", "bus"),
    [
        ("nano", 0, {"memory": "model"}),
        ("nano", 3, {"memory": "axi", "pause": 0.3, "stall": 0.3}),
        ("long", 3, {"memory": "model"}),
        ("short", 3, {"memory": "axi", "pause": 0.3, "stall": 0.3}),
        ("single", 3, {"memory": "axi", "pause": 0.3, "stall": 0.3}),
    ],
)
def test_error_response(name: str, number: int, bus: dict[str, Any]) -> None:
    config = CONFIGS[name]
    # In places of their own, so that the error is met by one instruction only.
    instructions = [dataclasses.replace(store, dram_address=0x600 * n, segment=Segment.CONSTANT, rows=1, words=9)
                    for n, store in enumerate(stores(config, 6, seed=7))]
    instructions = [dataclasses.replace(store, address=min(store.address, config.activation_words - 9))
                    for store in instructions]
    error = list(places(config, instructions[number]))[5][0]
    result = rtl_store(config, instructions, errors=[error], **bus)
    assert result["faults"] == [[ErrorCode.WRITE, instructions[number].index]]
    assert len(result["done"]) == number
    _bursts_are_whole(result)
    _only_right_bytes(config, instructions, result)


@pytest.mark.parametrize("name", CONFIGS)
def test_word_outside_of_the_memory(name: str) -> None:
    config = CONFIGS[name]
    good = Store(dram_address=0, segment=0, address=0, words=3, index=4)
    across = Store(dram_address=0x400, segment=0, address=config.activation_words - 2, words=8, index=5)
    result = rtl_store(config, [good, across, dataclasses.replace(good, index=6, dram_address=0x800)])
    assert result["faults"] == [[ErrorCode.ADDRESS, 5]]
    _bursts_are_whole(result)


@pytest.mark.parametrize(
    ("name", "halt_at", "bus"),
    [("nano", 3, {"memory": "model"}), ("nano", 9, {"memory": "axi", "pause": 0.4}), ("nano", 38, {"memory": "model"}),
     ("nano", 60, {"memory": "axi", "pause": 0.4}), ("single", 10, {"memory": "model"}),
     ("single", 60, {"memory": "axi", "pause": 0.4, "stall": 0.4})],
)
def test_halt(name: str, halt_at: int, bus: dict[str, Any]) -> None:
    config = CONFIGS[name]
    instructions = stores(config, 6, seed=2)
    result = rtl_store(config, instructions, halt_at=halt_at, **bus)
    assert result["faults"] == []
    assert len(result["done"]) < len(instructions)
    _only_right_bytes(config, instructions, result)
    _bursts_are_whole(result)
