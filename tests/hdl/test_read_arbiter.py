# SPDX-License-Identifier: Apache-2.0
"""FETCH and LOAD together on one port: each gets its own beats, and neither holds up the other for good."""

import random
from typing import Any

import pytest

from tests.hdl.bus_bench import BASES, CONFIGS, Log, ReadSide, beat_image, payload, places, transfers, verilog_of
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import ENGINES, Load, Memory, Segment, encode_program
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

PROGRAM = 0x4000


def rtl_both(config: AcceleratorConfig, loads: list[Load], code: bytes, **parameters: Any) -> dict[str, Any]:
    """Run LOADs while a program is fetched, whose instructions nobody executes."""
    fixed = {"instructions": [payload(config, load) for load in loads], "code": code.hex(),
             "in_flight": config.in_flight}
    verilog = verilog_of(ReadSide, config)
    result: dict[str, Any] = run_bench(verilog, __name__, "bench_both", parameters=fixed | parameters)
    return result


@bench(max_cycles=20_000)
async def bench_both(tb: Testbench) -> None:
    from tests.hdl.axi_memory import Monitor, main_memory

    dut, parameters = tb.dut, tb.parameters
    image = bytearray(beat_image())
    code = bytes.fromhex(parameters["code"])
    image[PROGRAM : PROGRAM + len(code)] = code
    main_memory(tb, image).start()
    monitor, log = Monitor(tb), Log(tb, "load_")
    tb.start(monitor.run())
    tb.start(log.run())
    dut.load_constant_base.value = BASES[Segment.CONSTANT]
    dut.load_arena_base.value = BASES[Segment.ARENA]
    written: dict[int, int] = {}
    fetched: list[int] = []
    tb.start(_write_port(tb, written))
    tb.start(_queue(tb, fetched))
    loads = tb.start(_offer(tb, log))
    await tb.cycles(10)
    dut.fetch_program_address.value = PROGRAM
    dut.fetch_program_bytes.value = len(code)
    dut.fetch_start.value = 1
    await tb.cycles()
    dut.fetch_start.value = 0
    await loads
    await log.idle()
    # LOAD has finished although no queue took a beat; now they do.
    held = len(fetched)
    parameters["queue_open"] = True
    while not int(dut.fetch_finished.value):
        await tb.cycles()
    tb.result = {"written": written, "fetched": fetched, "held": held, "done": len(log.done),
                 "whole": len(monitor.beats) == sum(beats for _, beats in monitor.bursts)}


async def _offer(tb: Testbench, log: Log) -> None:
    for number, instruction in enumerate(tb.parameters["instructions"]):
        while number - len(log.done) >= tb.parameters["in_flight"]:
            await tb.cycles()
        await tb.stream_put("load_instruction", [instruction])


async def _write_port(tb: Testbench, written: dict[int, int]) -> None:
    chance = random.Random(8)
    dut = tb.dut
    while True:
        dut.load_activation__ready.value = int(chance.random() >= tb.parameters["stall"])
        await tb.settle()
        if int(dut.load_activation__valid.value) and int(dut.load_activation__ready.value):
            written[int(dut.load_activation__address.value)] = int(dut.load_activation__data.value)
        await tb.cycles()


async def _queue(tb: Testbench, fetched: list[int]) -> None:
    ports = [[getattr(tb.dut, f"fetch_queues__{engine}__{what}") for what in ("payload", "valid", "ready")]
             for engine in ENGINES]
    while True:
        for _, _, ready in ports:
            ready.value = int(tb.parameters["queue_open"])
        await tb.settle()
        fetched += [int(payload.value) for payload, valid, ready in ports if int(valid.value) and int(ready.value)]
        await tb.cycles()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "bus",
    [
        {"memory": "model", "latency": 20, "queue_open": True, "stall": 0.0},
        {"memory": "axi", "pause": 0.4, "queue_open": False, "stall": 0.3},
    ],
)
def test_both(name: str, bus: dict[str, Any]) -> None:
    config = CONFIGS[name]
    loads: list[Load] = transfers(config, Load, 6, seed=2, memories=[Memory.ACTIVATION])
    code = encode_program(transfers(config, Load, 40, seed=3, memories=[Memory.WEIGHT]))
    result = rtl_both(config, loads, code, **bus)
    image = bytearray(beat_image())
    image[PROGRAM : PROGRAM + len(code)] = code
    expected = {str(word): int.from_bytes(image[dram : dram + config.array.rows], "little")
                for load in loads for dram, word in places(config, load)}
    assert result["written"] == expected
    size = config.bus.data_bytes
    assert result["fetched"] == [int.from_bytes(code[n : n + size], "little") for n in range(0, len(code), size)]
    assert result["done"] == len(loads)
    assert result["whole"]
    if not bus["queue_open"]:
        assert result["held"] == 0
