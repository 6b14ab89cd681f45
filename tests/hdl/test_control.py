# SPDX-License-Identifier: Apache-2.0
"""The control unit, driven over AXI4-Lite by cocotbext-axi with random pauses; the bench plays the core."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tilewright_hdl.config import PRESETS
from tilewright_hdl.control import Control
from tilewright_hdl.isa import ENGINES
from tilewright_hdl.ports import FaultLayout
from tilewright_hdl.registers import (
    CONTROL_CLEAR_IRQ,
    CONTROL_START,
    IDENTITY,
    REGISTERS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    VERSION,
    ErrorCode,
    counter_name,
)
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.machine import COUNTERS
from tilewright_sim.testbench import Testbench, bench

NANO = PRESETS["nano4"]
LEAN = replace(NANO, bus=replace(NANO.bus, address_bits=17), profile_records=0, counters=False)
WRITABLE = ("PROGRAM_ADDRESS", "PROGRAM_BYTES", "CONSTANT_BASE", "ARENA_BASE")


class Host:
    """Registers by name."""

    def __init__(self, tb: Testbench):
        from cocotbext.axi import AxiLiteBus, AxiLiteMaster

        self._tb = tb
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(tb.dut, "axi_"), tb.dut.clk, tb.dut.rst)
        read, write = self.master.read_if, self.master.write_if
        for number, channel in enumerate(
            (read.ar_channel, read.r_channel, write.aw_channel, write.w_channel, write.b_channel)
        ):
            channel.set_pause_generator(_pauses(number, tb.parameters["pause"]))
        read.log.setLevel("WARNING")
        write.log.setLevel("WARNING")

    async def get(self, name: str) -> int:
        return int(await self.master.read_dword(REGISTERS[name].address))

    async def put(self, name: str, value: int) -> None:
        await self.master.write_dword(REGISTERS[name].address, value)

    async def start(self, *, finished_before: bool = False) -> int:
        """Start, and return the cycles from the pulse of ``clear`` to that of ``start``."""
        clear = self._tb.start(self.pulse("clear"))
        start = self._tb.start(self._begin(finished_before))
        await self.put("CONTROL", CONTROL_START)
        gap = await start - await clear
        await self._tb.cycles()
        return gap

    async def _begin(self, finished_before: bool) -> int:
        """Leave ``finished`` high up to the first cycle, in which it must not end the program."""
        self._tb.dut.finished.value = int(finished_before)
        cycle = await self.pulse("start")
        self._tb.dut.finished.value = 0
        return cycle

    async def pulse(self, name: str) -> int:
        """Wait for a pulse of exactly one cycle, and return the cycle."""
        signal = getattr(self._tb.dut, name)
        while not int(signal.value):
            await self._tb.cycles()
        cycle = self._tb.cycle
        await self._tb.cycles()
        assert not int(signal.value), f"{name} must be high for one cycle"
        return cycle


def _pauses(seed: int, pause: float) -> Iterator[bool]:
    chance = random.Random(seed)
    while True:
        yield chance.random() < pause


def run(test: str, pause: float = 0.3) -> Any:
    return run_bench(Control(NANO), __name__, test, parameters={"pause": pause})


@bench(max_cycles=20_000)
async def bench_registers(tb: Testbench) -> None:
    host = Host(tb)
    tb.result = {"fresh": {name: await host.get(name) for name in REGISTERS}}
    values = {name: tb.random.getrandbits(32) for name in WRITABLE}
    for name, value in values.items():
        await host.put(name, value)
    tb.result |= {"written": values, "read": {name: await host.get(name) for name in WRITABLE}}
    # Single bytes, in any order.
    address = REGISTERS["PROGRAM_BYTES"].address
    await host.put("PROGRAM_BYTES", 0x11223344)
    await host.master.write(address + 2, b"\xaa")
    await host.master.write(address, b"\xbb\xcc")
    tb.result["bytes"] = await host.get("PROGRAM_BYTES")
    for name in ("IDENTITY", "STATUS", "CYCLES", "CONFIG_DIGEST_0", "PROFILE_COUNT"):
        await host.put(name, 0xFFFFFFFF)
    tb.result["after"] = {name: await host.get(name) for name in REGISTERS}
    last = max(register.address for register in REGISTERS.values())
    await host.master.write_dword(last + 4, 0xFFFFFFFF)
    tb.result["beyond"] = int(await host.master.read_dword(last + 4))


@pytest.mark.parametrize("pause", [0.0, 0.6])
def test_registers(pause: float) -> None:
    result = run("bench_registers", pause)
    digest = bytes.fromhex(NANO.digest)
    constants = {"IDENTITY": IDENTITY, "VERSION": VERSION}
    constants |= {f"CONFIG_DIGEST_{i}": int.from_bytes(digest[4 * i : 4 * i + 4], "big") for i in range(4)}
    assert result["fresh"] == {name: constants.get(name, 0) for name in REGISTERS}
    whole_beats = ~(NANO.bus.data_bytes - 1)
    assert result["read"] == {
        name: value if name == "PROGRAM_BYTES" else value & whole_beats for name, value in result["written"].items()
    }
    assert result["bytes"] == 0x11AACCBB
    kept = constants | result["read"] | {"PROGRAM_BYTES": 0x11AACCBB}
    assert result["after"] == {name: kept.get(name, 0) for name in REGISTERS}
    assert result["beyond"] == 0


@bench(max_cycles=20_000)
async def bench_good_run(tb: Testbench) -> None:
    host, dut = Host(tb), tb.dut
    results = []
    for enable, length in ((0, 7), (1, 100), (1, 1)):
        await host.put("IRQ_ENABLE", enable)
        await host.put("PROGRAM_ADDRESS", 0x1000)
        gap = await host.start(finished_before=True)
        running = {"now": int(dut.now.value), "irq": int(dut.irq.value)}
        if length > 50:
            await host.put("PROGRAM_ADDRESS", 0x2000)
            await host.put("CONTROL", CONTROL_START)
            running |= {"status": await host.get("STATUS"), "address": await host.get("PROGRAM_ADDRESS")}
        while int(dut.now.value) < length:
            await tb.cycles()
        dut.finished.value = 1
        await tb.cycles()
        dut.finished.value = 0
        await tb.cycles(3)
        ended = {"irq": int(dut.irq.value), "status": await host.get("STATUS"), "cycles": await host.get("CYCLES"),
                 "halt": int(dut.halt.value)}
        await host.put("CONTROL", CONTROL_CLEAR_IRQ)
        await tb.cycles(2)
        results.append({"gap": gap, "running": running, "ended": ended, "cleared": int(dut.irq.value),
                        "done": await host.get("STATUS")})
    tb.result = results


def test_good_runs() -> None:
    results = run("bench_good_run", 0.0)
    for result, enable in zip(results, (0, 1, 1), strict=True):
        assert result["gap"] == 1
        assert result["running"]["irq"] == 0
        assert result["ended"]["irq"] == enable
        assert (result["ended"]["status"], result["done"]) == (STATUS_DONE, STATUS_DONE)
        assert result["cleared"] == result["ended"]["halt"] == 0
    assert results[1]["running"] == results[1]["running"] | {"status": STATUS_BUSY, "address": 0x1000}
    assert results[1]["ended"]["cycles"] == 100
    assert results[2]["ended"]["cycles"] < 10


@bench(max_cycles=20_000)
async def bench_faults(tb: Testbench) -> None:
    host, dut = Host(tb), tb.dut
    await host.put("IRQ_ENABLE", 1)
    layout = FaultLayout()
    results = []
    for code, index, drain in tb.parameters["faults"]:
        await host.start()
        await tb.cycles(5)
        dut.busy.value = 1
        dut.fault.value = layout.const({"valid": 1, "code": code, "index": index}).as_bits()
        dut.finished.value = 1  # A fault in the last cycle counts.
        await tb.settle()
        halt = [int(dut.halt.value)]
        await tb.cycles()
        # Later faults do not matter.
        dut.fault.value = layout.const({"valid": 1, "code": 15 - code, "index": index ^ 1}).as_bits()
        await tb.cycles(drain)
        halt.append(int(dut.halt.value))
        busy = await host.get("STATUS")
        irq = int(dut.irq.value)
        dut.busy.value = 0
        dut.fault.value = 0
        dut.finished.value = 0
        await tb.cycles(3)
        results.append({
            "halt": [*halt, int(dut.halt.value)], "while_busy": [busy, irq], "irq": int(dut.irq.value),
            "status": await host.get("STATUS"), "index": await host.get("ERROR_INDEX"),
        })
    # A good run after them forgets it all.
    await host.start()
    await tb.cycles(2)
    running = [int(dut.irq.value), int(dut.halt.value), await host.get("STATUS"), await host.get("ERROR_INDEX")]
    dut.finished.value = 1
    await tb.cycles(3)
    tb.result = [results, running, await host.get("STATUS")]


def test_faults() -> None:
    faults = [(ErrorCode.FIELD, 0xFFFFF, 1), (ErrorCode.READ, 3, 40), (ErrorCode.DEADLOCK, 0, 7)]
    result = run_bench(Control(NANO), __name__, "bench_faults",
                       parameters={"pause": 0.0, "faults": [[int(c), i, d] for c, i, d in faults]})
    for (code, index, _), got in zip(faults, result[0], strict=True):
        assert got == {
            "halt": [0, 1, 1], "while_busy": [STATUS_BUSY | code << STATUS_ERROR_CODE_OFFSET, 0], "irq": 1,
            "status": STATUS_ERROR | code << STATUS_ERROR_CODE_OFFSET, "index": index,
        }
    assert result[1:] == [[0, 0, STATUS_BUSY, 0], STATUS_DONE]


@bench(max_cycles=20_000)
async def bench_counters(tb: Testbench) -> None:
    host, dut = Host(tb), tb.dut
    counters = tb.random.getrandbits(len(ENGINES) * 3 * 32)
    dut.counters.value = counters
    dut.profile_word.value, dut.profile_count.value, dut.profile_lost.value = 0xDEADBEEF, 33, 5
    await host.start()
    total = 0
    for _ in range(50):
        dut.saturated.value = saturated = tb.random.randint(0, NANO.post.lanes)
        total += saturated
        await tb.cycles()
    dut.saturated.value = 0
    nexts = [0]

    async def count_nexts() -> None:
        while True:
            await tb.settle()
            nexts[0] += int(dut.profile_next.value)
            await tb.cycles()

    tb.start(count_nexts())
    read = {name: await host.get(name) for name in REGISTERS}
    for _ in range(3):
        await host.get("PROFILE_DATA")
    tb.result = [counters, total, nexts[0], read]


def test_counters_and_profile() -> None:
    counters, total, nexts, read = run("bench_counters")
    for engine in ENGINES:
        for place, what in enumerate(("BUSY", "WAIT", "STALL")):
            assert read[counter_name(engine, what)] == counters >> 32 * (3 * engine + place) & 0xFFFFFFFF
    assert read["SATURATIONS"] == total
    assert (read["PROFILE_DATA"], read["PROFILE_COUNT"], read["PROFILE_LOST"]) == (0xDEADBEEF, 33, 5)
    assert nexts == 4, "only a read of PROFILE_DATA goes on to the next word"


@bench(max_cycles=20_000)
async def bench_restart(tb: Testbench) -> None:
    host, dut = Host(tb), tb.dut
    clears = [0]

    async def count_clears() -> None:
        while True:
            await tb.settle()
            clears[0] += int(dut.clear.value)
            await tb.cycles()

    tb.start(count_clears())

    async def restart() -> None:
        await tb.cycles()
        dut.restart.value = 1
        await tb.cycles()
        dut.restart.value = 0

    results = []
    for running, drain in ((False, 0), (True, 0), (True, 60)):
        await host.put("IRQ_ENABLE", 1)
        for name in WRITABLE:
            await host.put(name, 0x1000)
        if running:
            await host.start()
            await tb.cycles(7)
            dut.busy.value = int(drain > 0)
        before = clears[0]
        await restart()
        # Asked for at once, and answered only when what is under way has ended.
        reading = tb.start(host.get("STATUS"))
        await tb.cycles(drain)
        held = [not reading.done(), clears[0] - before]
        dut.busy.value = 0
        status = await reading
        after = {name: await host.get(name) for name in (*WRITABLE, "CYCLES", "IRQ_ENABLE", "ERROR_INDEX")}
        results.append({"held": held, "status": status, "after": after, "clears": clears[0] - before,
                        "halt": int(dut.halt.value), "irq": int(dut.irq.value)})
    # And it can be started again, the interrupt of the end included.
    await host.put("IRQ_ENABLE", 1)
    await host.start()
    dut.finished.value = 1
    await tb.cycles(4)
    tb.result = [results, await host.get("STATUS"), int(dut.irq.value)]


def test_a_restart_waits_for_the_bus_and_is_a_reset() -> None:
    results, status, irq = run("bench_restart", 0.0)
    for result, drain in zip(results, (0, 0, 60), strict=True):
        assert result == {"held": [True, 0], "status": 0, "after": dict.fromkeys(result["after"], 0), "clears": 1,
                          "halt": 0, "irq": 0}, drain
    assert (status, irq) == (STATUS_DONE, 1)


def test_a_small_configuration_has_no_counters_and_short_addresses() -> None:
    result = run_bench(Control(LEAN), __name__, "bench_registers", parameters={"pause": 0.3})
    assert result["read"] == {
        name: value & (1 << LEAN.bus.address_bits) - (1 if name == "PROGRAM_BYTES" else LEAN.bus.data_bytes)
        for name, value in result["written"].items()
    }
    assert result["bytes"] == 0x11AACCBB & (1 << LEAN.bus.address_bits) - 1
    assert not any(result["after"][name] for name in COUNTERS)
