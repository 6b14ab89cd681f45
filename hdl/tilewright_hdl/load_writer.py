# SPDX-License-Identifier: Apache-2.0
"""The half of the LOAD engine that puts beats together to words and writes them."""

from collections.abc import Mapping
from typing import Any

from amaranth import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import BeatLayout
from .bus_timing import memory_sizes, single_transfers
from .config import AcceleratorConfig, bits_for
from .held import drive_fault
from .isa import Memory
from .ports import FaultLayout, MemoryWrite
from .registers import ErrorCode
from .window_packer import WindowPacker
from .word_walker import WordLayout, WordsLayout, WordWalker

__all__ = ["LoadWriter", "load_memories"]


def load_memories(config: AcceleratorConfig) -> dict[Memory, MemoryWrite]:
    """Signature of the write port to each memory; ``PARAMETER`` is written in whole beats with :func:`_in_pieces`."""
    ports = {
        memory: MemoryWrite(bits_for(words), 8 * word_bytes,
                            config.activation_parts if memory is Memory.ACTIVATION else 1)
        for memory, (words, word_bytes) in memory_sizes(config).items()
    }
    if _in_pieces(config):
        beats = config.beats(config.parameter_word_bytes)
        address_bits = ports[Memory.PARAMETER].address_bits
        ports[Memory.PARAMETER] = MemoryWrite(address_bits, beats * config.bus.data_bits, beats)
    return ports


def _in_pieces(config: AcceleratorConfig) -> bool:
    """Whether each beat is written as it comes, as a small machine does where only parameters have words of several."""
    return single_transfers(config) and all(
        config.beats(size) == 1 for memory, (_, size) in memory_sizes(config).items() if memory is not Memory.PARAMETER)


class LoadWriter(wiring.Component):
    """Write the beats that come in to the words of instructions.

    Latency
    -------
    A word is written in the cycle after its last beat, or later if the memory is not ready; meanwhile beats are
    held up only if the next word's would overwrite it. ``done`` comes in the cycle of the last write. A window is
    packed as :class:`~.window_packer.WindowPacker` says, and written in the next cycle or later. Where
    :func:`load_memories` says so, parameters are written beat by beat.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : ``In(stream.Signature(WordsLayout(config, config.bus.windows)))``
        Instructions whose beats will come.
    beat : ``In(stream.Signature(BeatLayout(...)))``
    activation, weight, parameter, table : ``Out(MemoryWrite(...))``
        See :func:`load_memories`.
    stop : ``In(1)``
        Level: take every beat and drop it.
    moved : ``Out(1)``
        A beat was taken or a window packed for an instruction.
    done : ``Out(1)``
        Pulse for each instruction.
    fault : ``Out(FaultLayout())``
        ``READ`` or ``ADDRESS``, one cycle after the beat or window. ``stop`` must then be high from the same cycle on.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "i": In(stream.Signature(WordsLayout(config, config.bus.windows))),
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
        pieces = _in_pieces(self.config)
        ports = [getattr(self, memory.name.lower()) for memory in sizes]

        m.submodules.walker = walker = WordWalker(self.config, windows=self.config.bus.windows)
        wiring.connect(m, wiring.flipped(self.i), walker.i)
        word, beat = walker.o.p, self.beat

        count = Signal(bits_for(max(beats)))
        kept = Signal(data.ArrayLayout(self.config.bus.data_bits, 1 if pieces else max(beats)))
        full = Signal()
        full_word = Signal(WordLayout(self.config))
        full_mask = Signal(self.config.activation_parts, init=-1)
        piece = Signal.like(count)
        written, free, word_ends, illegal, wrong = Signal(), Signal(), Signal(), Signal(), Signal()
        taken, gathered, packed, completed = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            written.eq(full & Array(port.ready for port in ports)[full_word.memory]),
            free.eq(~full | written),
            word_ends.eq(count == Array(n - 1 for n in beats)[word.memory]),
            illegal.eq(Array(word.address >= words if words else 1 for words, _ in sizes.values())[word.memory]),
            taken.eq(beat.valid & beat.ready & ~self.stop),
            completed.eq(packed | (gathered & word_ends)),
            self.moved.eq(taken | packed),
            walker.o.ready.eq(completed),
            wrong.eq((taken & beat.p.error) | (self.moved & illegal)),
            self.done.eq(written & full_word.last),
        ]
        masks = {Memory.ACTIVATION: full_mask} | ({Memory.PARAMETER: 1 << piece} if pieces else {})
        self._write(m, full, full_word, kept, masks)
        drive_fault(m, self.config, self.fault, valid=wrong, index=word.index,
                    code=Mux(taken & beat.p.error, ErrorCode.READ, ErrorCode.ADDRESS))
        with m.If(written):
            m.d.sync += full.eq(0)
        with m.If(completed | (gathered if pieces else 0)):
            m.d.sync += [full.eq(~wrong), *(full_word[name].eq(word[name]) for name in full_word.shape().members),
                         full_word.last.eq(word.last & completed), piece.eq(count)]
        with m.If(gathered):
            m.d.sync += [kept[0 if pieces else count].eq(beat.p.data), full_mask.eq(-1),
                         count.eq(Mux(word_ends, 0, count + 1))]
        is_window, can_take = Const(0), free
        if self.config.bus.windows:
            packer = self._packer(m, walker, free)
            is_window, can_take = word.window, Mux(word.window, packer.beat.ready, free)
            # Not the packer is stopped, what it makes is: its part in this is long enough.
            m.d.comb += packed.eq(packer.i.ready & ~self.stop)
            with m.If(packed):
                m.d.sync += [kept.as_value()[:8 * self.config.array.rows].eq(packer.o.p.data),
                             full_mask.eq(packer.o.p.mask)]
        m.d.comb += [
            beat.ready.eq(self.stop | (walker.o.valid & can_take)),
            # Not by `ready`: what the packer takes comes late and has no part in this.
            gathered.eq(beat.valid & walker.o.valid & free & ~is_window & ~self.stop),
        ]
        return m

    def _write(self, m: Module, full: Signal, word: Any, kept: Any, masks: Mapping[Memory, Value]) -> None:
        """Offer the word to its memory; it fills the parts that the mask says, all of them if there is none."""
        for memory in memory_sizes(self.config):
            port = getattr(self, memory.name.lower())
            m.d.comb += [
                port.valid.eq(full & (word.memory == memory)),
                port.address.eq(word.address),
                # A beat that is written as it comes, into each of the places where it may belong.
                port.data.eq(kept.as_value().replicate(len(port.data) // len(kept.as_value()))
                             if len(port.data) > len(kept.as_value()) else kept),
                port.mask.eq(masks.get(memory, -1)),
            ]

    def _packer(self, m: Module, walker: WordWalker, free: Signal) -> WindowPacker:
        """What packs windows, which gets the words of such instructions and the beats."""
        m.submodules.packer = packer = WindowPacker(self.config)
        m.d.comb += [
            packer.i.valid.eq(walker.o.valid & walker.o.p.window),
            packer.i.p.eq(walker.o.p),
            packer.beat.valid.eq(self.beat.valid),
            packer.beat.p.eq(self.beat.p),
            packer.o.ready.eq(free),
        ]
        return packer
