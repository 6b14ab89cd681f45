# SPDX-License-Identifier: Apache-2.0
"""The read channels of the SDRAM controller."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import RESPONSE_OKAY, Axi4Read
from .config_parts import bits_for
from .sdram_config import SdramConfig
from .sdram_ports import PieceLayout
from .sdram_splitter import SdramSplitter
from .stream_fifo import StreamFifo, StreamPair

__all__ = ["SdramReads"]

_PIECES = 4
_ANSWERS = 8


class SdramReads(wiring.Component):
    """AXI read bursts to pieces, and the beats that were read to AXI, in the order of the bursts.

    A piece is offered once there is room for all of its beats, so that ``beat`` needs no ``ready``.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    axi : ``In(Axi4Read(...))``
    piece : ``Out(stream.Signature(PieceLayout(config)))``
    beat : ``In(stream.Signature(config.bus.data_bits, always_ready=True))``
        Beats of the pieces, in order.
    """

    axi: wiring.PureInterface
    piece: stream.Interface
    beat: stream.Interface

    def __init__(self, config: SdramConfig):
        self._config = config
        super().__init__({
            "axi": In(Axi4Read(config.bus.address_bits, config.bus.data_bits)),
            "piece": Out(stream.Signature(PieceLayout(config))),
            "beat": In(stream.Signature(config.bus.data_bits, always_ready=True)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, axi = self._config, self.axi
        answer = data.StructLayout({"id": 1, "beats": bits_for(config.piece_beats), "last": 1, "response": 2})
        m.submodules.splitter = splitter = SdramSplitter(config, write=False)
        m.submodules.pieces = pieces = StreamFifo(PieceLayout(config), _PIECES)
        m.submodules.answers = answers = StreamFifo(answer, _ANSWERS)
        m.submodules.beats = beats = StreamFifo(config.bus.data_bits, config.buffer_beats, block=True)

        # A piece outside of the memory is answered only.
        part = splitter.o.p
        served = part.response == RESPONSE_OKAY
        m.d.comb += [
            splitter.i.valid.eq(axi.arvalid),
            *(getattr(splitter.i.p, name).eq(getattr(axi, f"ar{port}")) for name, port in (
                ("id", "id"), ("address", "addr"), ("length", "len"), ("size", "size"), ("burst", "burst"))),
            axi.arready.eq(splitter.i.ready),
            splitter.o.ready.eq(answers.i.ready & (pieces.i.ready | ~served)),
            answers.i.valid.eq(splitter.o.valid & (pieces.i.ready | ~served)),
            pieces.i.valid.eq(splitter.o.valid & answers.i.ready & served),
            pieces.i.p.eq(part.piece),
            *(getattr(answers.i.p, name).eq(getattr(part, name)) for name in answer.members),
        ]
        self._reserve(m, pieces, beats)

        head = answers.o.p
        done = Signal.like(head.beats)
        # Block RAM is slow to answer, and behind the port whoever takes a beat decides late.
        sent = data.StructLayout({"id": 1, "data": config.bus.data_bits, "response": 2, "last": 1})
        m.submodules.sent = pair = StreamPair(sent)
        offered, moves = Signal(), Signal()
        good = head.response == RESPONSE_OKAY
        ends = done == head.beats
        m.d.comb += [
            beats.i.valid.eq(self.beat.valid),
            beats.i.payload.eq(self.beat.payload),
            offered.eq(answers.o.valid & (beats.o.valid | ~good)),
            moves.eq(offered & pair.room),
            pair.i.valid.eq(moves),
            pair.i.p.id.eq(head.id),
            pair.i.p.data.eq(Mux(good, beats.o.payload, 0)),
            pair.i.p.response.eq(head.response),
            pair.i.p.last.eq(head.last & ends),
            beats.o.ready.eq(answers.o.valid & good & pair.room),
            answers.o.ready.eq(moves & ends),
            axi.rvalid.eq(pair.o.valid),
            pair.o.ready.eq(axi.rready),
            *(getattr(axi, f"r{port}").eq(pair.o.p[name])
              for port, name in (("id", "id"), ("data", "data"), ("resp", "response"), ("last", "last"))),
        ]
        with m.If(moves):
            m.d.sync += done.eq(Mux(ends, 0, done + 1))
        return m

    def _reserve(self, m: Module, pieces: StreamFifo, beats: StreamFifo) -> None:
        """Offer the next piece while there is room for the longest one."""
        config = self._config
        commands = config.beat_words // config.burst_words
        held = Signal(range(config.buffer_beats + 1))
        room = held <= config.buffer_beats - config.piece_beats
        taken = Signal(range(config.piece_beats + 1))
        m.d.comb += [
            self.piece.p.eq(pieces.o.p),
            self.piece.valid.eq(pieces.o.valid & room),
            pieces.o.ready.eq(self.piece.ready & room),
        ]
        with m.If(self.piece.valid & self.piece.ready):
            m.d.comb += taken.eq((self.piece.p.count >> (commands.bit_length() - 1)) + 1)
        m.d.sync += held.eq(held + taken - (beats.o.valid & beats.o.ready))
