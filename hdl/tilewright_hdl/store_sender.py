# SPDX-License-Identifier: Apache-2.0
"""The part of the STORE engine that sends words as the beats of bursts."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for

__all__ = ["StoreSender"]


class StoreSender(wiring.Component):
    """Cut words into beats, lowest bytes first, for bursts of given lengths.

    Bytes of a word's last beat that lie beyond the word are written as zeros.

    Latency
    -------
    A beat is offered one cycle after its word; one beat a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    lengths : ``In(stream.Signature(8))``
        Beats of each burst, less one.
    words : ``In(stream.Signature(8 * config.array.rows))``
    o : ``Out(stream.Signature(StructLayout({"data", "strobe", "last"})))``
        Beats.
    stop : ``In(1)``
        Level: finish the bursts with beats that write nothing (all strobes low), taking no words.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "lengths": In(stream.Signature(8)),
            "words": In(stream.Signature(8 * config.array.rows)),
            "o": Out(stream.Signature(data.StructLayout({
                "data": config.bus.data_bits, "strobe": config.bus.data_bytes, "last": 1,
            }))),
            "stop": In(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = self.config.beats(self.config.array.rows)

        parts = Signal(data.ArrayLayout(self.config.bus.data_bits, beats))
        part = Signal(bits_for(beats))
        sent = Signal.like(self.lengths.payload)
        load = Signal()
        last = Signal()
        m.d.comb += [
            parts.eq(self.words.payload),
            load.eq((~self.o.valid | self.o.ready) & self.lengths.valid & (self.words.valid | self.stop)),
            last.eq(sent == self.lengths.payload),
            self.lengths.ready.eq(load & last),
            self.words.ready.eq(load & (part == beats - 1)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(load):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.data.eq(parts[part]),
                self.o.p.strobe.eq(Mux(self.stop, 0, -1)),
                self.o.p.last.eq(last),
                sent.eq(Mux(last, 0, sent + 1)),
                part.eq(Mux(part == beats - 1, 0, part + 1)),
            ]
        return m
