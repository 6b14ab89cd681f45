# SPDX-License-Identifier: Apache-2.0
"""Run programs on the whole accelerator in Verilator, with cocotbext-axi on both of its buses.

The bench does what a host does: it writes main memory and registers, waits for the interrupt and reads everything
back. Addresses in ``errors`` (first, last) are answered with SLVERR.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.registers import CONTROL_CLEAR_IRQ, CONTROL_START, PROFILE_FIELDS, REGISTERS
from tilewright_hdl.verilog import TOP, generate
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

PROGRAM, CONSTANTS, ARENA, MEMORY_BYTES = 0x1000, 0x4000, 0x8000, 0x10000


@dataclass
class Job:
    """One run: what main memory holds before, and what is wrong with it."""

    program: bytes
    constants: bytes = b""
    arena: bytes = b""
    program_bytes: int | None = None
    read_errors: tuple[int, int] = (0, 0)
    write_errors: tuple[int, int] = (0, 0)


@dataclass
class Outcome:
    """What the host reads after a run."""

    registers: dict[str, int]
    arena: bytes
    profile: list[dict[str, int]]
    irq_after_clear: int
    extra: dict[str, Any] = field(default_factory=dict)


def run_jobs(
    config: AcceleratorConfig, jobs: list[Job], *, pause: float = 0.0, seed: int = 1, max_cycles: int = 200_000
) -> list[Outcome]:
    """Run jobs one after the other on one accelerator."""
    orders = []
    for job in jobs:
        order = asdict(job)
        orders.append({key: value.hex() if isinstance(value, bytes) else value for key, value in order.items()})
    results = run_bench(
        generate(config), __name__, "bench_jobs", top=TOP, seed=seed, max_cycles=max_cycles,
        parameters={"jobs": orders, "pause": pause},
    )
    return [Outcome(**{**result, "arena": bytes.fromhex(result["arena"])}) for result in results]


@bench(max_cycles=200_000)
async def bench_jobs(tb: Testbench) -> None:
    host = Host(tb, tb.parameters["pause"])
    tb.result = [await host.run(job) for job in tb.parameters["jobs"]]


class Host:
    """Host and main memory."""

    def __init__(self, tb: Testbench, pause: float):
        from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

        self._tb = tb
        self._memory = bytearray(MEMORY_BYTES)
        self._errors = {"read": (0, 0), "write": (0, 0)}
        dut = tb.dut
        slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=self)
        self._registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        read, write = slave.read_if, slave.write_if
        control = self._registers
        channels = [read.ar_channel, read.r_channel, write.aw_channel, write.w_channel, write.b_channel,
                    control.read_if.ar_channel, control.read_if.r_channel, control.write_if.aw_channel,
                    control.write_if.w_channel, control.write_if.b_channel]
        for number, channel in enumerate(channels):
            channel.log.setLevel("WARNING")
            if pause:
                channel.set_pause_generator(_pauses(f"{tb.random.random()} {number}", pause))
        for part in (read, write, control.read_if, control.write_if):
            part.log.setLevel("WARNING")

    async def read(self, address: int, length: int, **_: Any) -> bytes:
        self._check("read", address)
        return bytes(self._memory[address : address + length])

    async def write(self, address: int, data: bytes, **_: Any) -> None:
        self._check("write", address)
        self._memory[address : address + len(data)] = data

    def _check(self, kind: str, address: int) -> None:
        first, last = self._errors[kind]
        if first <= address < last:
            raise OSError("an error of the bench")

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        program = bytes.fromhex(job["program"])
        for base, data in ((PROGRAM, program), (CONSTANTS, bytes.fromhex(job["constants"])),
                           (ARENA, bytes.fromhex(job["arena"]))):
            self._memory[base : base + len(data)] = data
        self._errors = {"read": job["read_errors"], "write": job["write_errors"]}
        length = len(program) if job["program_bytes"] is None else job["program_bytes"]
        for name, value in (("PROGRAM_ADDRESS", PROGRAM), ("PROGRAM_BYTES", length), ("CONSTANT_BASE", CONSTANTS),
                            ("ARENA_BASE", ARENA), ("IRQ_ENABLE", 1), ("CONTROL", CONTROL_START)):
            await self.put(name, value)
        await self._tb.cycles(2)
        while not int(self._tb.dut.irq.value):
            await self._tb.cycles()
        registers = {name: await self.get(name) for name in REGISTERS if name != "PROFILE_DATA"}
        profile = [
            {word: await self.get("PROFILE_DATA") for word in PROFILE_FIELDS}
            for _ in range(registers["PROFILE_COUNT"])
        ]
        await self.put("CONTROL", CONTROL_CLEAR_IRQ)
        await self._tb.cycles(2)
        return {
            "registers": registers,
            "arena": self._memory[ARENA:].hex(),
            "profile": profile,
            "irq_after_clear": int(self._tb.dut.irq.value),
            "extra": {"profile_left": await self.get("PROFILE_COUNT"), "no_record": await self.get("PROFILE_DATA")},
        }

    async def get(self, name: str) -> int:
        return int(await self._registers.read_dword(REGISTERS[name].address))

    async def put(self, name: str, value: int) -> None:
        await self._registers.write_dword(REGISTERS[name].address, value)


def _pauses(seed: str, pause: float) -> Iterator[bool]:
    chance = random.Random(seed)
    while True:
        yield chance.random() < pause
