# SPDX-License-Identifier: Apache-2.0
"""An SDRAM's pins: registers in them, and the clock of the chip.

*Half a period.* The chip's clock is that of the controller, half a period later. So what the controller sends changes
half a period before and after each edge that the chip takes it by, whatever the set-up and hold times of the chip are,
as long as all pins have equal delays: they are registers in the pins, and the clock leaves by such a register as well.

*Data that come back* are taken at the chip's clock too, so a whole period after the edge by which the chip sends
them: they have a period less the delay out to the chip, its access time and the delay back. The controller takes them
from there half a period later.

So the pins add :data:`~.memories.PHY_DELAY` cycles: the register on the way out adds one, the chip then takes a command
half a cycle early, and the register on the way back gives that half back.
"""

from typing import Any

from amaranth import Elaboratable, Module
from amaranth.lib import io, wiring

from tilewright_hdl.sdram_config import SdramChip
from tilewright_hdl.sdram_ports import SdramPins as SdramPinsSignature

__all__ = ["SdramPins"]

CHIP_DOMAIN = "chip"
"""Clock domain of the chip: half a period behind ``sync``."""


class SdramPins(Elaboratable):
    """Cells between the controller and the pins.

    Parameters
    ----------
    chip : SdramChip
    port
        The resource, requested with the direction ``"-"``, with the names of ``SDRAMResource`` of amaranth-boards.

    Members
    -------
    pins : ``In(SdramPins(chip))``
        The controller's.
    """

    def __init__(self, chip: SdramChip, port: Any):
        self.pins: Any = wiring.flipped(SdramPinsSignature(chip).create())
        self._port = port

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pins, port = self.pins, self._port
        outputs = {"cke": "clk_en", "cs": "cs", "ras": "ras", "cas": "cas", "we": "we", "ba": "ba", "a": "a",
                   "dqm": "dqm"}
        for name, pin in outputs.items():
            m.submodules[pin] = buffer = io.FFBuffer("o", getattr(port, pin), o_domain="sync")
            m.d.comb += buffer.o.eq(getattr(pins, name))
        m.submodules.dq = dq = io.FFBuffer("io", port.dq, i_domain=CHIP_DOMAIN, o_domain="sync")
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
        m.submodules.clk = clk = io.DDRBuffer("o", port.clk, o_domain=CHIP_DOMAIN)
        m.d.comb += [clk.o[0].eq(1), clk.o[1].eq(0)]
        return m
