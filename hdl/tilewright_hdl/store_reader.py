# SPDX-License-Identifier: Apache-2.0
"""The half of the STORE engine that reads words from the activation scratchpad."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .bus_timing import store_timing
from .config import AcceleratorConfig, bits_for
from .held import drive_fault
from .ports import FaultLayout, MemoryRead
from .registers import ErrorCode
from .stream_fifo import StreamFifo, StreamPair
from .word_walker import WordsLayout, WordWalker

__all__ = ["StoreReader"]


class StoreReader(wiring.Component):
    """Read the words of instructions ahead of their use.

    Latency
    -------
    A word is offered 2 cycles after its read was granted; one word a cycle. Where transfers are single
    (:func:`~.bus_timing.single_transfers`), a read may be granted in the cycle in which a word leaves.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : ``In(stream.Signature(WordsLayout(config)))``
        Instructions.
    o : ``Out(stream.Signature(8 * config.array.rows))``
        Words.
    read : ``Out(MemoryRead(...))``
    stop : ``In(1)``
        Level: read nothing more.
    fault : ``Out(FaultLayout())``
        ``ADDRESS``. ``stop`` must then be high from the same cycle on.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        word_bits = 8 * config.array.rows
        super().__init__({
            "i": In(stream.Signature(WordsLayout(config))),
            "o": Out(stream.Signature(word_bits)),
            "read": Out(MemoryRead(bits_for(config.activation_words), word_bits)),
            "stop": In(1),
            "fault": Out(FaultLayout()),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = WordWalker(self.config)
        timing = store_timing(self.config)
        queue = StreamPair(self.o.p.shape()) if timing.ahead == 2 else StreamFifo(self.o.p.shape(), timing.ahead)
        m.submodules.words = words = queue
        wiring.connect(m, wiring.flipped(self.i), walker.i)
        wiring.connect(m, words.o, wiring.flipped(self.o))

        illegal = Signal()
        granted = Signal()
        arrives = Signal()
        taken = Signal(range(timing.ahead + 1))
        leaves = self.o.valid & self.o.ready
        room = (taken != timing.ahead) | (leaves if timing.reuse == 0 else 0)
        m.d.comb += [
            illegal.eq(walker.o.p.address >= self.config.activation_words),
            self.read.valid.eq(walker.o.valid & ~illegal & room & ~self.stop),
            self.read.address.eq(walker.o.p.address),
            granted.eq(self.read.valid & self.read.ready),
            walker.o.ready.eq(granted),
            words.i.valid.eq(arrives),
            words.i.payload.eq(self.read.data),
        ]
        m.d.sync += [
            arrives.eq(granted),
            taken.eq(taken + granted - leaves),
        ]
        drive_fault(m, self.config, self.fault, valid=walker.o.valid & illegal & ~self.stop, code=ErrorCode.ADDRESS,
                    index=walker.o.p.index)
        return m
