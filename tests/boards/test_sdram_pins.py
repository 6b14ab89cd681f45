# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The clock of an SDRAM and the registers in its pins, against a chip that answers as late or as early as it may."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth import ClockDomain, ClockSignal, Module, Mux, Signal
from amaranth.hdl import Fragment
from amaranth.lib import io
from amaranth.sim import Simulator

from tilewright_boards.sdram_phase import PHASES, SdramPhase
from tilewright_boards.sdram_pins import CHIP_DOMAIN, SdramPins
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.sdram_config import CHIPS
from tilewright_hdl.targets import Target

CHIP = CHIPS["ULX3S"]
CAS = 2
CYCLES = 24
STEPS = 64
"""Of a period, in which the chip looks at its pins."""
WIDTHS = {"clk": 1, "clk_en": 1, "cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "a": CHIP.row_bits, "dqm": 2}
SETUP, HOLD, DATA_HOLD = 2_000, 1_000, 2_500
# Access time of the chip, and the way to it and back, in picoseconds: all late, and all early.
EXTREMES = {Target.ECP5: ((6_000, 4_500), (3_000, 1_500)), Target.GOWIN: ((6_000, 9_000), (3_000, 2_000))}


class Cells:
    """Platform for Amaranth's simulator, which has no registers of double data rate."""

    def get_io_buffer(self, buffer: Any) -> Any:
        if not isinstance(buffer, io.DDRBuffer):
            return buffer.elaborate(None)
        m = Module()
        m.d.comb += buffer.port.o.eq(Mux(ClockSignal(buffer.o_domain), buffer.o[0], buffer.o[1]))
        return m


class Chip:
    """Takes an address at each edge of its clock, and answers it with itself ``CAS`` edges later; 0 else.

    ``early`` and ``late`` are the shortest times that an address stood before and after an edge, in steps.
    """

    def __init__(self, port: SimpleNamespace, period: int, access: int, way: int):
        self._port = port
        self._step = period / STEPS
        self._first = round(((CAS - 1) * period + access + way) / self._step)
        self._behind = round((CAS * period + DATA_HOLD + way) / self._step)
        self.early = self.late = STEPS

    async def run(self, ctx: Any) -> None:
        events: dict[int, list[tuple[bool, int]]] = {}
        before, address, changed, edge = 1, 0, 0, 0
        for now in range(CYCLES * STEPS):
            clock, value = ctx.get(self._port.clk.o), ctx.get(self._port.a.o)
            if value != address:
                self.late = min(self.late, now - edge)
                address, changed = value, now
            if clock and not before:
                self.early, edge = min(self.early, now - changed), now
                events.setdefault(now + self._first, []).append((True, address))
                events.setdefault(now + self._behind, []).append((False, address))
            before = clock
            for starts, data in events.pop(now, []):
                if starts or ctx.get(self._port.dq.i) == data:
                    ctx.set(self._port.dq.i, data if starts else 0)
            await ctx.delay(self._step * 1e-12)


def simulate(phase: SdramPhase, clock_hz: int, access: int, way: int) -> tuple[dict[int, int], Chip, float]:
    """What the controller sees at the end of each cycle if the address in a cycle is the cycle's number."""
    period = 10**12 // clock_hz
    port = SimpleNamespace(**{name: io.SimulationPort("o", width) for name, width in WIDTHS.items()},
                           dq=io.SimulationPort("io", CHIP.data_bits))
    m = Module()
    m.domains += [ClockDomain("sync", reset_less=True), ClockDomain(CHIP_DOMAIN, reset_less=True)]
    m.submodules.dut = dut = SdramPins(CHIP, phase, port)
    cycle = Signal(CHIP.row_bits, init=1)
    m.d.sync += cycle.eq(cycle + 1)
    m.d.comb += dut.pins.a.eq(cycle)
    simulator = Simulator(Fragment.get(m, Cells()))
    simulator.add_clock(period * 1e-12, phase=period * 1e-12)
    simulator.add_clock(period * 1e-12, phase=period * (1 + phase.phase / PHASES) * 1e-12, domain=CHIP_DOMAIN)
    model = Chip(port, period, access, way)
    seen: dict[int, int] = {}

    async def watch(ctx: Any) -> None:
        for _ in range(CYCLES - 2):
            _, _, number, data = await ctx.tick().sample(cycle, dut.pins.dq_i)
            seen[number] = data

    simulator.add_testbench(model.run)
    simulator.add_testbench(watch)
    simulator.run()
    return seen, model, period / STEPS


CASES = [(Target.ECP5, 80), (Target.ECP5, 60), (Target.ECP5, 25), (Target.GOWIN, 48), (Target.GOWIN, 27)]


@pytest.mark.parametrize(("target", "mhz"), CASES)
@pytest.mark.parametrize("extreme", [0, 1], ids=["late", "early"])
def test_data_come_when_the_controller_counts_on_them(target: Target, mhz: int, extreme: int) -> None:
    phase = SdramPhase.of(target, mhz * 1_000_000)
    assert phase.margin > 0
    seen, chip, step = simulate(phase, mhz * 1_000_000, *EXTREMES[target][extreme])
    # With ideal pins the chip would take a command at the end of its cycle, and the controller its data at the end of
    # the CAS-th cycle behind that.
    way = CAS + phase.delay
    late = [cycle for cycle, data in seen.items() if cycle > way + 3 and data != cycle - way]
    assert late == []
    assert len(seen) > way + 10
    assert chip.early * step >= SETUP
    assert chip.late * step >= HOLD


def test_another_phase_is_seen() -> None:
    """The bench is not blind: with a phase that is wrong for this clock, other data or none are taken."""
    phase = SdramPhase.of(Target.ECP5, 80_000_000)
    wrong = dataclasses.replace(phase, phase=6)
    seen, _, _ = simulate(wrong, 80_000_000, *EXTREMES[Target.ECP5][1])
    assert [cycle for cycle, data in seen.items() if cycle > 8 and data != cycle - CAS - phase.delay]


def test_too_fast_a_clock_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"clock_hz must leave time .* at 166 MHz \d+ ps are missing"):
        SdramPhase.of(Target.ECP5, 166_000_000)
    with pytest.raises(ConfigError, match=r"board.target must be one of ecp5, gowin where the memory is an SDRAM"):
        SdramPhase.of(Target.ICE40, 24_000_000)
