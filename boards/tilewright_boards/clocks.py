# SPDX-License-Identifier: Apache-2.0
"""Clocks of a board by the PLL of its FPGA, and the reset that goes with them."""

from typing import Any

from amaranth import ClockDomain, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer

from .pll import Ecp5Pll, GowinPll, Ice40Pll, Pll
from .sdram_pins import CHIP_DOMAIN

__all__ = ["Clocks"]

_SETTLE_SECONDS = 20e-6
"""Reset lasts so long after the PLL has locked: the block RAMs of an iCE40 are not to be used before."""


class Clocks(Elaboratable):
    """Domain ``sync`` with its reset, and ``chip``, a part of a period behind it.

    The reset begins with the configuration of the FPGA, lasts until the PLL has been locked for 20 us, and comes
    again when the PLL loses its lock or with ``button``. It is released in step with the clock.

    Parameters
    ----------
    pll : Pll
    pad
        The clock's resource, requested with the direction ``"-"``.

    Members
    -------
    domains : list of ClockDomain
        To be added where everything that they clock is below.
    button : ``In(1)``
        In no relation to the clock.
    """

    def __init__(self, pll: Pll, pad: Any):
        self.button = Signal()
        self._sync = ClockDomain("sync")
        self._chip = ClockDomain(CHIP_DOMAIN, reset_less=True)
        self.domains = [self._sync, self._chip]
        self._pll = pll
        self._pad = pad

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # On the same clock as ``sync``: what makes the reset cannot be reset by it.
        m.domains.boot = boot = ClockDomain(reset_less=True, local=True)
        sync, chip = self._sync, self._chip
        locked = Signal()
        make = {Ecp5Pll: self._ecp5, Ice40Pll: self._ice40, GowinPll: self._gowin}
        make[type(self._pll)](m, sync.clk, chip.clk, locked)
        m.d.comb += boot.clk.eq(sync.clk)

        hold = Signal(init=1)
        m.submodules.hold = FFSynchronizer(~locked | self.button, hold, o_domain="boot", init=1)
        cycles = Signal(range(int(_SETTLE_SECONDS * self._pll.output_hz)))
        reset = Signal(init=1)
        with m.If(hold):
            m.d.boot += [cycles.eq(0), reset.eq(1)]
        with m.Elif(cycles.all()):
            m.d.boot += reset.eq(0)
        with m.Else():
            m.d.boot += cycles.eq(cycles + 1)
        m.d.comb += sync.rst.eq(reset)
        return m

    def _input(self, m: Module) -> Signal:
        m.submodules.clock = buffer = io.Buffer("i", self._pad)
        return buffer.i

    def _ecp5(self, m: Module, clk: Signal, late: Signal, locked: Signal) -> None:
        m.submodules.pll = Instance(
            "EHXPLLL", *_parameters(self._pll), ("i", "CLKI", self._input(m)), ("i", "CLKFB", clk),
            *(("i", name, 0) for name in ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PHASEDIR", "PHASESTEP",
                                          "PHASELOADREG", "PLLWAKESYNC", "ENCLKOP", "ENCLKOS")),
            ("o", "CLKOP", clk), ("o", "CLKOS", late), ("o", "LOCK", locked),
        )

    def _ice40(self, m: Module, clk: Signal, late: Signal, locked: Signal) -> None:
        m.submodules.pll = Instance(
            "SB_PLL40_PAD", *_parameters(self._pll), ("i", "PACKAGEPIN", self._pad.io), ("i", "RESETB", 1),
            ("i", "BYPASS", 0), ("o", "PLLOUTGLOBAL", clk), ("o", "LOCK", locked),
        )

    def _gowin(self, m: Module, clk: Signal, late: Signal, locked: Signal) -> None:
        zeros = {"RESET": 1, "RESET_P": 1, "CLKFB": 1, "FBDSEL": 6, "IDSEL": 6, "ODSEL": 6, "PSDA": 4, "DUTYDA": 4,
                 "FDLY": 4}
        m.submodules.pll = Instance(
            "rPLL", *_parameters(self._pll), ("i", "CLKIN", self._input(m)),
            *(("i", name, Signal(width, name=name.lower())) for name, width in zeros.items()),
            ("o", "CLKOUT", clk), ("o", "CLKOUTP", late), ("o", "LOCK", locked),
        )


def _parameters(pll: Pll) -> list[tuple[str, str, Any]]:
    return [("p", name, value) for name, value in pll.parameters.items()]
