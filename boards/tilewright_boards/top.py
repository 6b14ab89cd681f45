# SPDX-License-Identifier: Apache-2.0
"""Everything of a board's design that is the same for a simulator and for the FPGA."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tilewright_hdl import block_memory
from tilewright_hdl.accelerator import Accelerator
from tilewright_hdl.axi_share import AxiShare
from tilewright_hdl.host_link import HostLink
from tilewright_hdl.sdram_controller import SdramController
from tilewright_hdl.sdram_ports import SdramPins

from .board import LEDS, Board
from .memories import SdramMemory, SpramMemory

__all__ = ["BoardTop"]


class BoardTop(wiring.Component):
    """Accelerator, main memory and host link of a board, in one clock domain.

    The link can restart the accelerator; it itself, main memory and the way to that go on as if nothing had happened.

    Parameters
    ----------
    board : Board
    build : bytes
        The first 16 bytes of the build's digest, for the link to tell.

    Members
    -------
    rx : ``In(1)``
    tx : ``Out(1)``
        Serial line of the host.
    leds : ``Out(len(LEDS))``
        One bit for each of :data:`~.board.LEDS`; a 1 is light.
    sdram : ``Out(SdramPins(...))``
        If the board has an SDRAM. Its controller counts on :attr:`SdramPhase.delay <.sdram_phase.SdramPhase.delay>`
        cycles on the way to the chip and back.
    """

    def __init__(self, board: Board, build: bytes):
        self._board = board
        self._identity = board.identity(build)
        members = {"rx": In(1, init=1), "tx": Out(1, init=1), "leds": Out(len(LEDS))}
        if isinstance(board.memory, SdramMemory):
            members["sdram"] = Out(SdramPins(board.memory.parameters))
        super().__init__(members)

    @property
    def board(self) -> Board:
        return self._board

    def elaborate(self, platform: object) -> Module:
        m = Module()
        board, bus = self.board, self.board.config.bus
        m.submodules.link = link = HostLink(self._identity, baud=board.baud, address_bits=bus.address_bits)
        m.submodules.accelerator = accelerator = Accelerator(board.config)
        m.submodules.share = share = AxiShare(board.config)
        wiring.connect(m, link.registers, accelerator.s_axil)
        wiring.connect(m, link.memory, share.link)
        wiring.connect(m, accelerator.m_axi, share.accelerator)
        m.submodules.memory = memory = self._memory()
        wiring.connect(m, share.axi, memory.axi)
        if isinstance(board.memory, SdramMemory):
            wiring.connect(m, memory.pins, wiring.flipped(self.sdram))
        m.d.comb += [
            link.rx.eq(self.rx), self.tx.eq(link.tx), accelerator.restart.eq(link.reset),
            self.leds.eq(Cat(self._heartbeat(m), link.synced, accelerator.running, accelerator.failed)),
        ]
        return m

    def _memory(self) -> Any:
        memory, bus = self.board.memory, self.board.config.bus
        if isinstance(memory, SdramMemory):
            return SdramController(memory.controller(self.board.target, self.board.clock_hz, bus))
        if isinstance(memory, SpramMemory):
            return block_memory.SpramMemory(bus)
        return block_memory.BlockMemory(bus, memory.bytes // bus.data_bytes)

    def _heartbeat(self, m: Module) -> Signal:
        """About once a second, whatever the clock."""
        count = Signal((self.board.clock_hz - 1).bit_length(), reset_less=True)
        m.d.sync += count.eq(count + 1)
        return count[-1]
