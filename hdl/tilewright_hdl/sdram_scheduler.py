# SPDX-License-Identifier: Apache-2.0
"""Reads and writes take turns at the SDRAM."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .sdram_config import SdramConfig
from .sdram_ports import PieceLayout

__all__ = ["TURN_PIECES", "SdramScheduler"]

TURN_PIECES = 4
"""Pieces of one direction in a row while the other one waits. Each change of direction costs some cycles."""


class SdramScheduler(wiring.Component):
    """Merge pieces of reads and of writes.

    A direction goes on as long as it has pieces, but for at most ``TURN_PIECES`` while the other one waits; so neither
    starves. A piece that is offered on ``o`` and not taken may be replaced.

    Latency
    -------
    None.

    Parameters
    ----------
    config : SdramConfig

    Members
    -------
    reads, writes : ``In(stream.Signature(PieceLayout(config)))``
    o : ``Out(stream.Signature(PieceLayout(config)))``
    """

    reads: stream.Interface
    writes: stream.Interface
    o: stream.Interface

    def __init__(self, config: SdramConfig):
        pieces = stream.Signature(PieceLayout(config))
        super().__init__({"reads": In(pieces), "writes": In(pieces), "o": Out(pieces)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reads, writes = self.reads, self.writes
        writing = Signal()
        row = Signal(range(TURN_PIECES + 1), init=0)
        turn = row == TURN_PIECES
        write = Signal()
        m.d.comb += [
            write.eq(Mux(reads.valid & writes.valid, writing ^ turn, writes.valid)),
            self.o.valid.eq(reads.valid | writes.valid),
            self.o.p.eq(Mux(write, writes.p, reads.p)),
            reads.ready.eq(self.o.ready & ~write),
            writes.ready.eq(self.o.ready & write),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += writing.eq(write)
            with m.If(write != writing):
                m.d.sync += row.eq(1)
            with m.Elif(~turn):
                m.d.sync += row.eq(row + 1)
        return m
