# SPDX-License-Identifier: Apache-2.0
"""The two ends of a serial line, cycle by cycle, against a line that is written and read in Python."""

import random

import pytest

from tests.hdl.cycle_bench import rtl_cycles
from tilewright_hdl.link_format import UartTiming
from tilewright_hdl.uart import UartReceiver, UartTransmitter
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

TIMINGS = [UartTiming(24_000_000, 3_000_000), UartTiming(12_000_000, 3_000_000), UartTiming(25_000_000, 3_000_000)]
IDS = ["8 cycles", "4 cycles", "25/3 cycles"]
EXTREMES = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80]


def line_of(values: list[tuple[int, bool, int]], bit: float) -> list[int]:
    """Levels of a line, one for each cycle: bytes, whether the stop bit is there, and idle cycles behind each."""
    levels: list[int] = []
    now = 0.0
    for byte, stops, idle in values:
        for level in (0, *(byte >> place & 1 for place in range(8)), int(stops)):
            now += bit
            levels += [level] * (round(now) - len(levels))
        if not stops:
            levels += [1] * round(12 * bit)
        levels += [1] * idle
        now = len(levels) if idle or not stops else now
    return levels


def received(timing: UartTiming, levels: list[int]) -> tuple[list[int], list[int]]:
    """Bytes, and bits."""
    # The bench begins with a low line, as a byte does.
    quiet = round(12 * timing.clock_hz / timing.baud)
    inputs = [{"rx": level} for level in [1] * quiet + levels + [1] * quiet]
    found = rtl_cycles(UartReceiver(timing), inputs, ["bit_valid", "bit_value", "valid", "data"])[quiet:]
    return ([cycle["data"] for cycle in found if cycle["valid"]],
            [cycle["bit_value"] for cycle in found if cycle["bit_valid"]])


@pytest.mark.parametrize("timing", TIMINGS, ids=IDS)
@pytest.mark.parametrize("drift", [-0.018, 0.0, 0.018])
def test_receiver(timing: UartTiming, drift: float) -> None:
    """Bytes back to back and with pauses, from a clock that is off by as much as it may."""
    chance = random.Random(3)
    values = [*EXTREMES, *EXTREMES[::-1], *(chance.randrange(256) for _ in range(40))]
    pauses = [0] * 20 + [chance.randrange(20) for _ in values[20:]]
    line = line_of([(value, True, pause) for value, pause in zip(values, pauses, strict=True)],
                   timing.clock_hz / timing.baud * (1 + drift))
    found, bits = received(timing, line)
    assert found == values
    assert bits == [value >> place & 1 for value in values for place in range(8)]


@pytest.mark.parametrize("timing", TIMINGS, ids=IDS)
def test_receiver_drops_bytes_without_stop_bit_and_spikes(timing: UartTiming) -> None:
    bit = timing.clock_hz / timing.baud
    line = line_of([(0x12, True, 5), (0x34, False, 30), (0x56, True, 0), (0x00, False, 30), (0x78, True, 30)], bit)
    # A start that is over before its middle.
    line += [0] + [1] * 30 + line_of([(0x9A, True, 0)], bit)
    assert received(timing, line)[0] == [0x12, 0x56, 0x78, 0x9A]


@bench(max_cycles=20_000)
async def bench_transmitter(tb: Testbench) -> None:
    levels: list[int] = []

    async def watch() -> None:
        while True:
            await tb.settle()
            levels.append(int(tb.dut.tx.value))
            await tb.cycles()

    tb.start(watch())
    values = tb.parameters["values"]
    await tb.stream_put("i", values, stall=tb.parameters["stall"])
    await tb.cycles(tb.parameters["rest"])
    tb.result = levels


@pytest.mark.parametrize("timing", TIMINGS, ids=IDS)
@pytest.mark.parametrize("stall", [0.0, 0.95])
def test_transmitter(timing: UartTiming, stall: float) -> None:
    """Each level as long as it should be, to a cycle; without stalls no cycle is lost between two bytes."""
    chance = random.Random(4)
    values = EXTREMES + [chance.randrange(256) for _ in range(20)]
    bit = timing.clock_hz / timing.baud
    levels = run_bench(UartTransmitter(timing), __name__, "bench_transmitter",
                       parameters={"values": values, "stall": stall, "rest": round(12 * bit)})
    found, now, first = [], 0, None
    while (begin := next((place for place in range(now, len(levels)) if not levels[place]), None)) is not None:
        first = begin if first is None else first
        frame = [levels[begin + round((place + 0.5) * bit)] for place in range(10)]
        assert (frame[0], frame[9]) == (0, 1)
        found.append(sum(level << place for place, level in enumerate(frame[1:9])))
        now = begin + round(9.5 * bit)
    assert found == values and first is not None
    if not stall:
        assert abs(now - round(9.5 * bit) - first - 10 * bit * (len(values) - 1)) <= 2
