# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Accumulators against a numpy array."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.hdl.exec_model import small_config
from tilewright_hdl.accumulators import AccumulatorColumns, AccumulatorRead, Accumulators
from tilewright_hdl.config import AcceleratorConfig, Multipliers
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.timing import accumulator_read, column_delay
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench


@bench(max_cycles=20_000)
async def accumulate(tb: Testbench) -> None:
    """Play commands with their sums, skewed by column, and reads; return what was read."""
    dut, p = tb.dut, tb.parameters
    config = AcceleratorConfig.from_dict(p["config"])
    columns, bits = config.array.columns, config.array.sum_bits
    layout = Accumulators(config).write.shape()
    tb.result = []
    for cycle, (command, read) in enumerate(zip(p["commands"], p["reads"], strict=True)):
        dut.write.value = layout.const(command).as_bits()
        packed = 0
        for column in range(columns):
            # The sum comes behind its command, and later in the columns to the right.
            behind = cycle - accumulator_read(config.memory) - column_delay(config.array, column)
            value = p["sums"][behind][column] if behind >= 0 else 0
            packed |= (value & ((1 << bits) - 1)) << (bits * column)
        dut.sums.value = packed
        dut.read__valid.value = int(read is not None)
        dut.read__bank.value, dut.read__address.value = read or (1, 0)
        await tb.cycles()
        raw = int(dut.read__data.value).to_bytes(4 * columns, "little")
        tb.result.append(np.frombuffer(raw, "<i4").tolist() if read is not None else None)


@pytest.mark.parametrize(("columns", "multipliers", "bits", "in_flight", "registered"), [
    (3, Multipliers.DIRECT, 32, 4, False), (4, Multipliers.PAIRED, 32, 2, False),
    (4, Multipliers.PAIRED, 24, 1, False), (4, Multipliers.PAIRED, 24, 1, True), (3, Multipliers.DIRECT, 32, 1, True),
])
def test_accumulate(columns: int, multipliers: Multipliers, bits: int, in_flight: int, registered: bool) -> None:
    small = small_config(4, columns, multipliers)
    config = replace(small, memory=replace(small.memory, accumulator_bits=bits, registered=registered),
                     in_flight=in_flight)
    rng = random.Random(6)
    entries, sum_bits = config.memory.accumulator_entries, config.array.sum_bits
    drained = columns + accumulator_read(config.memory)
    expected = np.zeros((2, entries, columns), np.int32)
    commands: list[dict[str, int]] = []
    sums: list[list[int]] = []
    reads: list[Any] = []
    results: list[Any] = []

    def cycle(command: dict[str, int] | None, read: tuple[int, int] | None) -> None:
        commands.append(command or {"valid": 0, "bank": rng.getrandbits(1), "address": 1, "fresh": 0, "again": 0})
        low = -(1 << (sum_bits - 1))
        # Column 0 always goes down, and so below what 24 bits can hold.
        others = [rng.choice([low, -1 - low, rng.randint(low, -1 - low)]) for _ in range(columns - 1)]
        sums.append([low, *others])
        reads.append(read)
        results.append(None if read is None else expected[read].tolist())
        if command:
            at = command["bank"], command["address"]
            total = (0 if command["fresh"] else expected[at]) + np.array(sums[-1], np.int32)
            expected[at] = (total + (1 << bits >> 1)) % (1 << bits) - (1 << bits >> 1) if bits < 32 else total

    # Every entry is defined before anything is added to it.
    for bank in range(2):
        for entry in range(entries):
            cycle({"valid": 1, "bank": bank, "address": entry, "fresh": 1, "again": 0}, None)
    for phase in range(24):
        bank = phase & 1
        before: list[Any] = [None] * accumulator_read(config.memory)
        for _ in range(drained):
            cycle(None, None)
        for _ in range(60):
            # Few addresses, so that many follow each other directly; reads go to the bank at rest.
            address = rng.choice([0, 1, 2, entries - 1, rng.randrange(entries)])
            command = None
            # One instruction after the other never comes to an entry before it has been written.
            if rng.random() < 0.8 and (in_flight > 1 or address not in before):
                command = {"valid": 1, "bank": bank, "address": address, "again": int(address in before),
                           "fresh": int(address > 1 and rng.random() < 0.2)}
            before = [*before[1:], address if command else None]
            cycle(command, (1 - bank, rng.randrange(entries)) if rng.random() < 0.7 else None)
    for _ in range(drained):
        cycle(None, None)
    for bank in range(2):
        for entry in range(entries):
            cycle(None, (bank, entry))

    assert (expected[:, :2, 0] > 0).any() == (bits == 24)
    parameters = {"config": config.to_dict(), "commands": commands, "sums": sums, "reads": reads}
    dut = emit_verilog(Accumulators(config), "dut")
    assert run_bench(dut, __name__, "accumulate", parameters=parameters) == results


def test_read_signature() -> None:
    assert AccumulatorRead(6, 3) == AccumulatorRead(6, 3)
    assert AccumulatorRead(6, 3) != AccumulatorRead(6, 4)
    assert repr(AccumulatorRead(6, 3)) == "AccumulatorRead(6, 3)"


def test_either_follows_or_registered() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        AccumulatorColumns(2, 18, 32, 16, follows=True, registered=True)
