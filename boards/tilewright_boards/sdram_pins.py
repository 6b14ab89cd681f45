# SPDX-License-Identifier: Apache-2.0
"""An SDRAM's pins: registers in them, and the clock of the chip; :mod:`~.sdram_phase` says when."""

from typing import Any

from amaranth import Elaboratable, Module
from amaranth.lib import io, wiring

from tilewright_hdl.sdram_config import SdramChip
from tilewright_hdl.sdram_ports import SdramPins as SdramPinsSignature

from .sdram_phase import SdramPhase

__all__ = ["SdramPins"]

CHIP_DOMAIN = "chip"
"""Clock domain of the chip: a part of a period behind ``sync``."""


class SdramPins(Elaboratable):
    """Cells between the controller and the pins.

    Parameters
    ----------
    chip : SdramChip
    phase : SdramPhase
    port
        The resource, requested with the direction ``"-"``, with the names of ``SDRAMResource`` of amaranth-boards.

    Members
    -------
    pins : ``In(SdramPins(chip))``
        The controller's.
    """

    def __init__(self, chip: SdramChip, phase: SdramPhase, port: Any):
        self.pins: Any = wiring.flipped(SdramPinsSignature(chip).create())
        self._taken = CHIP_DOMAIN if phase.apart else "sync"
        self._port = port

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pins, port = self.pins, self._port
        outputs = {"cke": "clk_en", "cs": "cs", "ras": "ras", "cas": "cas", "we": "we", "ba": "ba", "a": "a",
                   "dqm": "dqm"}
        for name, pin in outputs.items():
            m.submodules[pin] = buffer = io.FFBuffer("o", getattr(port, pin), o_domain="sync")
            m.d.comb += buffer.o.eq(getattr(pins, name))
        m.submodules.dq = dq = io.FFBuffer("io", port.dq, i_domain=self._taken, o_domain="sync")
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
        m.submodules.clk = clk = io.DDRBuffer("o", port.clk, o_domain=CHIP_DOMAIN)
        m.d.comb += [clk.o[0].eq(1), clk.o[1].eq(0)]
        return m
