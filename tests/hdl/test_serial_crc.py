# SPDX-License-Identifier: Apache-2.0
"""The CRC of the host link against that of zlib, and the counters of its buffers."""

import random
import zlib

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from tests.hdl.cycle_bench import rtl_cycles
from tilewright_hdl.serial_crc import SerialCrc
from tilewright_hdl.shift_counter import FIRST, stepped, stepped_back, steps


@pytest.mark.parametrize("idle", [0.0, 0.6])
def test_crc(idle: float) -> None:
    """Messages in turn, the shortest and with all bits alike among them; after each one, its CRC is drained."""
    chance = random.Random(1)
    messages = [b"\0", b"\xff", b"", b"123456789", bytes(20), b"\xff" * 20, chance.randbytes(60), chance.randbytes(1)]
    quiet = {"clear": 0, "valid": 0, "value": 0, "drain": 0}
    inputs: list[dict[str, int]] = []
    wanted: dict[int, int] = {}
    for message in messages:
        # A bit in the cycle of a clear is lost.
        inputs.append(quiet | {"clear": 1, "valid": 1, "value": chance.getrandbits(1)})
        for bit in range(8 * len(message)):
            while chance.random() < idle:
                inputs.append(quiet | {"value": chance.getrandbits(1), "drain": chance.getrandbits(1)})
            inputs.append(quiet | {"valid": 1, "value": message[bit // 8] >> bit % 8 & 1})
        value = zlib.crc32(message)
        for bit in range(32):
            wanted[len(inputs)] = value >> bit
            inputs.append(quiet | {"valid": 1, "drain": 1, "value": chance.getrandbits(1)})
    found = rtl_cycles(SerialCrc(), inputs, ["state"])
    for cycle, value in wanted.items():
        # What was not drained yet, the inverse of the lower bits.
        bits = value.bit_length()
        assert (~found[cycle]["state"] ^ value) & ((1 << bits) - 1) == 0, cycle


@pytest.mark.parametrize("bits", [8, 9])
def test_shift_counters(bits: int) -> None:
    values = [steps(bits, count) for count in range(1 << bits)]
    assert values[0] == values[-1] == FIRST and len(set(values)) == (1 << bits) - 1 and 0 not in values
    m = Module()
    forth, back = Signal(bits, init=FIRST), Signal(bits, init=FIRST)
    m.d.sync += [forth.eq(stepped(forth)), back.eq(stepped_back(back))]

    async def check(ctx) -> None:  # type: ignore[no-untyped-def]
        for count in range(1 << bits):
            assert (ctx.get(forth), ctx.get(back)) == (values[count], values[-1 - count])
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(check)
    simulator.run()
