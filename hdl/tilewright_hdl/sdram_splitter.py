# SPDX-License-Identifier: Apache-2.0
"""AXI bursts to pieces that each lie within a page of the SDRAM."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BURST_INCR, RESPONSE_DECERR, RESPONSE_OKAY, RESPONSE_SLVERR
from .config_parts import bits_for
from .sdram_config import SdramConfig
from .sdram_ports import PieceLayout

__all__ = ["AddressLayout", "PartLayout", "SdramSplitter"]


class AddressLayout(data.StructLayout):
    """What an AXI address channel brings."""

    def __init__(self, address_bits: int):
        super().__init__({"id": 1, "address": address_bits, "length": 8, "size": 3, "burst": 2})


class PartLayout(data.StructLayout):
    """A piece and its part in the answer: ``beats`` less one, ``last`` of its burst, and ``response``.

    Where ``response`` is not OKAY, the piece means nothing.
    """

    def __init__(self, config: SdramConfig):
        super().__init__({
            "piece": PieceLayout(config), "id": 1, "beats": bits_for(config.piece_beats), "last": 1, "response": 2,
        })


class SdramSplitter(wiring.Component):
    """Cut bursts at multiples of ``config.piece_beats`` beats.

    The low bits of an address within a beat are ignored, as whole beats move. Beats outside of the memory get DECERR;
    a burst of several beats that is not incrementing, or whose beats are narrower than the bus, gets SLVERR.

    Latency
    -------
    One cycle to the first piece; then a piece a cycle, and one cycle between bursts.

    Parameters
    ----------
    config : SdramConfig
    write : bool
        What to note in the pieces.

    Members
    -------
    i : ``In(stream.Signature(AddressLayout(...)))``
    o : ``Out(stream.Signature(PartLayout(config)))``
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, config: SdramConfig, *, write: bool):
        self._config = config
        self._write = write
        super().__init__({
            "i": In(stream.Signature(AddressLayout(config.bus.address_bits))),
            "o": Out(stream.Signature(PartLayout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        skip = exact_log2(config.bus.data_bytes)
        longest = config.piece_beats

        active = Signal()
        owner = Signal()
        unserved = Signal()
        beat = Signal(config.bus.address_bits - skip)
        # Beats that are not in a piece yet, and those up to the next cut. All counts are less one, which saves adders.
        left = Signal(8)
        room = Signal(exact_log2(longest))
        m.d.comb += [
            room.eq(~beat[:len(room)]),
            self.o.valid.eq(active),
            self.o.p.id.eq(owner),
            self.o.p.beats.eq(Mux(self.o.p.last, left, room)),
            self.o.p.last.eq(left <= room),
            self.i.ready.eq(~active),
        ]
        self._place(m, beat, unserved)
        with m.If(self.o.valid & self.o.ready):
            # Another piece begins where this one was cut; no sum of a whole address and a length is needed.
            m.d.sync += [beat.eq(Cat(Const(0, len(room)), beat[len(room):] + 1)), left.eq(left - room - 1)]
            with m.If(self.o.p.last):
                m.d.sync += active.eq(0)
        i = self.i.p
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                active.eq(1),
                owner.eq(i.id),
                beat.eq(i.address[skip:]),
                left.eq(i.length),
                # A single beat is the same in every type of burst, and a narrow one has strobes.
                unserved.eq((i.length != 0) & ((i.burst != BURST_INCR) | (i.size != skip))),
            ]
        return m

    def _place(self, m: Module, beat: Signal, unserved: Signal) -> None:
        """Give ``o`` its piece and its response."""
        config, piece = self._config, self.o.p.piece
        word = Cat(Const(0, exact_log2(config.beat_words)), beat)  # From the address in beats to that in words.
        page = word[config.chip.column_bits:]
        commands = config.beat_words // config.burst_words
        outside = beat[exact_log2(config.chip.bytes // config.bus.data_bytes):].any()
        m.d.comb += [
            piece.write.eq(self._write),
            piece.column.eq(word[:config.chip.column_bits]),
            piece.bank.eq(page),
            piece.row.eq(page[len(piece.bank):]),
            piece.count.eq(Cat(Const(commands - 1, exact_log2(commands)), self.o.p.beats)),
            self.o.p.response.eq(Mux(outside, RESPONSE_DECERR, Mux(unserved, RESPONSE_SLVERR, RESPONSE_OKAY))),
        ]
