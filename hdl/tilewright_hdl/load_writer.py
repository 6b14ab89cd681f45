# SPDX-License-Identifier: Apache-2.0
"""The half of the LOAD engine that puts beats together to words and writes them."""

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import BeatLayout
from .bus_timing import memory_sizes
from .config import AcceleratorConfig, bits_for
from .isa import Memory
from .ports import FaultLayout, MemoryWrite
from .registers import ErrorCode
from .word_walker import WordsLayout, WordWalker

__all__ = ["LoadWriter", "load_memories"]


def load_memories(config: AcceleratorConfig) -> dict[Memory, MemoryWrite]:
    """Signature of the write port to each memory."""
    return {
        memory: MemoryWrite(bits_for(words), 8 * word_bytes,
                            config.row_groups if memory is Memory.ACTIVATION else 1)
        for memory, (words, word_bytes) in memory_sizes(config).items()
    }


class LoadWriter(wiring.Component):
    """Write the beats that come in to the words of instructions.

    Latency
    -------
    A word is written in the cycle after its last beat, or later if the memory is not ready; meanwhile beats are
    held up only if the next word's would overwrite it. ``done`` comes in the cycle of the last write.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : ``In(stream.Signature(WordsLayout()))``
        Instructions whose beats will come.
    beat : ``In(stream.Signature(BeatLayout(...)))``
    activation, weight, parameter, table : ``Out(MemoryWrite(...))``
        See :func:`load_memories`.
    stop : ``In(1)``
        Level: take every beat and drop it.
    moved : ``Out(1)``
        A beat was taken for an instruction.
    done : ``Out(1)``
        Pulse for each instruction.
    fault : ``Out(FaultLayout())``
        ``READ`` or ``ADDRESS``, one cycle after the beat. ``stop`` must then be high from the same cycle on.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "i": In(stream.Signature(WordsLayout())),
            "beat": In(stream.Signature(BeatLayout(config.bus.data_bits))),
            **{memory.name.lower(): Out(port) for memory, port in load_memories(config).items()},
            "stop": In(1),
            "moved": Out(1),
            "done": Out(1),
            "fault": Out(FaultLayout()),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes = memory_sizes(self.config)
        beats = [self.config.beats(word_bytes) for _, word_bytes in sizes.values()]
        ports = [getattr(self, memory.name.lower()) for memory in sizes]

        m.submodules.walker = walker = WordWalker()
        wiring.connect(m, wiring.flipped(self.i), walker.i)
        word, beat = walker.o.p, self.beat

        count = Signal(bits_for(max(beats)))
        kept = Signal(data.ArrayLayout(self.config.bus.data_bits, max(beats)))
        full = Signal()
        full_word = Signal.like(word)
        written = Signal()
        free = Signal()
        word_ends = Signal()
        illegal = Signal()
        wrong = Signal()
        m.d.comb += [
            written.eq(full & Array(port.ready for port in ports)[full_word.memory]),
            free.eq(~full | written),
            word_ends.eq(count == Array(n - 1 for n in beats)[word.memory]),
            illegal.eq(Array(word.address >= words if words else 1 for words, _ in sizes.values())[word.memory]),
            self.moved.eq(beat.valid & walker.o.valid & free & ~self.stop),
            beat.ready.eq(self.stop | (walker.o.valid & free)),
            walker.o.ready.eq(self.moved & word_ends),
            wrong.eq(self.moved & (beat.p.error | illegal)),
            self.done.eq(written & full_word.last),
        ]
        for memory, port in zip(sizes, ports, strict=True):
            m.d.comb += [
                port.valid.eq(full & (full_word.memory == memory)),
                port.address.eq(full_word.address),
                port.data.eq(kept),
                port.mask.eq(-1),
            ]

        m.d.sync += [
            self.fault.valid.eq(wrong),
            self.fault.code.eq(Mux(beat.p.error, ErrorCode.READ, ErrorCode.ADDRESS)),
            self.fault.index.eq(word.index),
        ]
        with m.If(written):
            m.d.sync += full.eq(0)
        with m.If(self.moved):
            m.d.sync += [kept[count].eq(beat.p.data), count.eq(count + 1)]
            with m.If(word_ends):
                m.d.sync += [count.eq(0), full.eq(~wrong), full_word.eq(word)]
        return m
