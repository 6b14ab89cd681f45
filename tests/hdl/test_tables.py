# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Table memory: each entry of each table, read while other words are written."""

from dataclasses import replace
from random import Random

import pytest

from tilewright_hdl.config import PRESETS, TABLE_ENTRIES, AcceleratorConfig, BusConfig, PostConfig
from tilewright_hdl.tables import TableMemory
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench


def config_of(tables: int, bus: int) -> AcceleratorConfig:
    return replace(PRESETS["nano4"], post=PostConfig(lanes=2, tables=tables), bus=BusConfig(data_bits=bus))


@bench(max_cycles=20_000)
async def bench_tables(tb: Testbench) -> None:
    """Write all tables, then read at random; between two reads the image stays, and a word is written anew."""
    dut, beat = tb.dut, tb.parameters["beat"]
    tables = bytearray(tb.parameters["tables"])

    async def write(address: int) -> None:
        data = int.from_bytes(tables[address * beat : (address + 1) * beat], "little")
        dut.write__valid.value, dut.write__mask.value = 1, 1
        dut.write__address.value, dut.write__data.value = address, data
        await tb.cycles()
        dut.write__valid.value = 0
        dut.write__data.value = tb.random.getrandbits(8 * beat)

    for address in range(len(tables) // beat):
        await write(address)
    for _ in range(1000):
        at = tb.random.randrange(len(tables))
        dut.enable.value, dut.index.value, dut.value.value = 1, at // TABLE_ENTRIES, at % TABLE_ENTRIES ^ 0x80
        await tb.cycles()
        dut.enable.value, dut.index.value, dut.value.value = 0, 0, tb.random.getrandbits(8)
        expected = tables[at]
        await tb.settle()
        assert int(dut.image.value) == expected, f"entry {at}"
        await tb.cycles()
        tables[at] = tb.random.getrandbits(8)
        await write(at // beat)
        await tb.settle()
        assert int(dut.image.value) == expected, f"entry {at} must stay until the next read"
        await tb.cycles()


@pytest.mark.parametrize(("tables", "bus"), [(1, 32), (3, 128), (16, 256)])
def test_tables(tables: int, bus: int) -> None:
    contents = list(Random(tables).randbytes(tables * TABLE_ENTRIES))
    parameters = {"tables": contents, "beat": bus // 8}
    run_bench(TableMemory(config_of(tables, bus)), __name__, "bench_tables", parameters=parameters)


def test_no_tables() -> None:
    with pytest.raises(ValueError, match=r"config must have tables, but post\.tables was 0"):
        TableMemory(config_of(0, 32))
