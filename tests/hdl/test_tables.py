# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Table memory: each entry of each table, read while other words are written."""

from dataclasses import replace
from random import Random

import pytest

from tilewright_hdl.config import PRESETS, TABLE_ENTRIES, AcceleratorConfig, BusConfig, PostConfig
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.tables import TableMemory
from tilewright_hdl.targets import Target
from tilewright_hdl.timing import table_delay
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench


def config_of(tables: int, bus: int, registered: bool = False) -> AcceleratorConfig:
    return replace(PRESETS["nano4"], post=PostConfig(lanes=2, tables=tables, registered=registered),
                   bus=BusConfig(data_bits=bus))


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
        if tb.parameters["delay"] > 1:
            await tb.cycles(tb.parameters["delay"] - 1)
        expected = tables[at]
        await tb.settle()
        assert int(dut.image.value) == expected, f"entry {at}"
        await tb.cycles()
        tables[at] = tb.random.getrandbits(8)
        await write(at // beat)
        await tb.settle()
        assert int(dut.image.value) == expected, f"entry {at} must stay until the next read"
        await tb.cycles()


@pytest.mark.parametrize(("tables", "bus", "registered"), [
    (1, 32, False), (3, 128, False), (16, 256, False), (2, 64, True),
])
def test_tables(tables: int, bus: int, registered: bool) -> None:
    contents = list(Random(tables).randbytes(tables * TABLE_ENTRIES))
    config = config_of(tables, bus, registered)
    parameters = {"tables": contents, "beat": bus // 8, "delay": table_delay(config.post)}
    run_bench(TableMemory(config), __name__, "bench_tables", parameters=parameters)


@pytest.mark.parametrize("target", Target)
def test_block_ram_where_there_is_time_and_room_for_it(target: Target) -> None:
    for registered in (False, True):
        text = emit_verilog(TableMemory(config_of(1, 64, registered)), "dut", target=target)
        assert ('(* ram_style = "block" *)' in text) == (registered and target == Target.ECP5)


def test_no_tables() -> None:
    with pytest.raises(ValueError, match=r"config must have tables, but post\.tables was 0"):
        TableMemory(config_of(0, 32))
