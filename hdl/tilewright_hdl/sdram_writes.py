# SPDX-License-Identifier: Apache-2.0
"""The write channels of the SDRAM controller."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import RESPONSE_OKAY, Axi4Write
from .config_parts import bits_for
from .sdram_config import SdramConfig
from .sdram_ports import BeatWrite, PieceLayout
from .sdram_splitter import SdramSplitter
from .stream_fifo import StreamFifo

__all__ = ["SdramWrites"]

_PIECES = 4
_ANSWERS = 8


class SdramWrites(wiring.Component):
    """AXI write bursts to pieces and beats, and their responses, in order.

    A piece is offered once all of its beats have come, so that the pins never wait for the bus. A burst is answered
    when its last column command was decided: a read that is asked for after that sees what was written. ``wlast`` is
    not looked at; a burst ends by its length. Where the pieces of a burst differ in their response, the highest counts.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    axi : ``In(Axi4Write(...))``
    piece : ``Out(stream.Signature(PieceLayout(config)))``
    beat : ``Out(stream.Signature(BeatWrite(config)))``
        Beats of the pieces; each is there when it is needed.
    written : ``In(1)``
        The last command of a piece goes out.
    """

    axi: wiring.PureInterface
    piece: stream.Interface
    beat: stream.Interface

    def __init__(self, config: SdramConfig):
        self._config = config
        super().__init__({
            "axi": In(Axi4Write(config.bus.address_bits, config.bus.data_bits)),
            "piece": Out(stream.Signature(PieceLayout(config))),
            "beat": Out(stream.Signature(BeatWrite(config))),
            "written": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, axi = self._config, self.axi
        arrival = data.StructLayout({"beats": bits_for(config.piece_beats), "served": 1})
        answer = data.StructLayout({"id": 1, "last": 1, "response": 2})
        m.submodules.splitter = splitter = SdramSplitter(config, write=True)
        m.submodules.pieces = pieces = StreamFifo(PieceLayout(config), _PIECES)
        m.submodules.arrivals = arrivals = StreamFifo(arrival, _ANSWERS)
        # A piece leaves this queue last, so that of arrivals, which is as deep, has room whenever this one has.
        m.submodules.answers = answers = StreamFifo(answer, _ANSWERS)

        part = splitter.o.p
        served = part.response == RESPONSE_OKAY
        m.d.comb += [
            splitter.i.valid.eq(axi.awvalid),
            *(getattr(splitter.i.p, name).eq(getattr(axi, f"aw{port}")) for name, port in (
                ("id", "id"), ("address", "addr"), ("length", "len"), ("size", "size"), ("burst", "burst"))),
            axi.awready.eq(splitter.i.ready),
            splitter.o.ready.eq(answers.i.ready & (pieces.i.ready | ~served)),
            answers.i.valid.eq(splitter.o.valid & (pieces.i.ready | ~served)),
            arrivals.i.valid.eq(splitter.o.valid & splitter.o.ready),
            pieces.i.valid.eq(splitter.o.valid & answers.i.ready & served),
            pieces.i.p.eq(part.piece),
            arrivals.i.p.beats.eq(part.beats),
            arrivals.i.p.served.eq(served),
            *(getattr(answers.i.p, name).eq(getattr(part, name)) for name in answer.members),
        ]
        arrived = self._collect(m, arrivals)
        self._offer(m, pieces, arrived)
        self._answer(m, answers)
        return m

    def _collect(self, m: Module, arrivals: StreamFifo) -> Signal:
        """Take the beats; return a pulse for each served piece that has all of its own."""
        config, axi, head = self._config, self.axi, arrivals.o.p
        m.submodules.beats = beats = StreamFifo(BeatWrite(config), config.buffer_beats, block=True)
        wiring.connect(m, beats.o, wiring.flipped(self.beat))
        done = Signal.like(head.beats)
        arrived = Signal()
        ends = done == head.beats
        m.d.comb += [
            beats.i.valid.eq(axi.wvalid & arrivals.o.valid & head.served),
            beats.i.p.data.eq(axi.wdata),
            beats.i.p.strobe.eq(axi.wstrb),
            axi.wready.eq(arrivals.o.valid & (beats.i.ready | ~head.served)),
            arrivals.o.ready.eq(axi.wvalid & axi.wready & ends),
        ]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += done.eq(Mux(ends, 0, done + 1))
        # The queue of beats offers a beat two cycles after it took it; the pulse comes with the last one's offer.
        before = Signal()
        m.d.sync += [before.eq(arrivals.o.ready & head.served), arrived.eq(before)]
        return arrived

    def _offer(self, m: Module, pieces: StreamFifo, arrived: Signal) -> None:
        whole = Signal(range(_ANSWERS + 1))
        m.d.comb += [
            self.piece.p.eq(pieces.o.p),
            self.piece.valid.eq(pieces.o.valid & (whole != 0)),
            pieces.o.ready.eq(self.piece.ready & (whole != 0)),
        ]
        m.d.sync += whole.eq(whole + arrived - (self.piece.valid & self.piece.ready))

    def _answer(self, m: Module, answers: StreamFifo) -> None:
        axi, head = self.axi, answers.o.p
        done = Signal(range(_ANSWERS + 1))
        so_far = Signal(2)  # The highest response of the burst's pieces before this one.
        served = head.response == RESPONSE_OKAY
        response = Mux(head.response > so_far, head.response, so_far)
        free = ~axi.bvalid | axi.bready
        m.d.comb += answers.o.ready.eq((~served | (done != 0)) & (free | ~head.last))
        m.d.sync += done.eq(done + self.written - (answers.o.valid & answers.o.ready & served))
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(answers.o.valid & answers.o.ready):
            m.d.sync += so_far.eq(Mux(head.last, RESPONSE_OKAY, response))
            with m.If(head.last):
                m.d.sync += [axi.bvalid.eq(1), axi.bid.eq(head.id), axi.bresp.eq(response)]
