# SPDX-License-Identifier: Apache-2.0
"""The profile: one record for each instruction that has finished."""

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for
from .isa import ENGINES
from .ports import INDEX_BITS
from .registers import COUNTER_BITS, PROFILE_FIELDS, TAG_ENGINE_OFFSET

__all__ = ["Profile", "RecordLayout"]


class RecordLayout(data.StructLayout):
    """What a finished instruction leaves behind; cycles as in :data:`~.registers.PROFILE_FIELDS`."""

    def __init__(self) -> None:
        super().__init__({
            "index": INDEX_BITS,
            "engine": bits_for(len(ENGINES)),
            "issue": COUNTER_BITS,
            "start": COUNTER_BITS,
            "end": COUNTER_BITS,
            "stall": COUNTER_BITS,
        })


class Profile(wiring.Component):
    """Keep records until they are read, word by word.

    A record that finds the memory full is counted and dropped; the input is never held. If there is no memory, records
    are dropped and nothing is counted.

    Latency
    -------
    A record taken in cycle t is counted in cycle t + 1, and its first word offered from cycle t + 2 on. A word is
    replaced by the next one, of this or the next record, in the cycle after ``next``.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`
        ``profile_records``, a power of two or 0, are kept.

    Members
    -------
    record : ``In(stream.Signature(RecordLayout()))``
    word : ``Out(COUNTER_BITS)``
        Current word of the oldest record, in the order of :data:`~.registers.PROFILE_FIELDS`; 0 if there is none.
    next : ``In(1)``
        Go on to the next word. After a record's last word the record is removed. Nothing happens without a record.
    count : ``Out(range(profile_records + 1))``
        Records that are kept.
    lost : ``Out(COUNTER_BITS)``
        Records that were dropped.
    """

    record: stream.Interface

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "record": In(stream.Signature(RecordLayout())),
            "word": Out(COUNTER_BITS),
            "next": In(1),
            "count": Out(range(config.profile_records + 1)),
            "lost": Out(COUNTER_BITS),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.record.ready.eq(1)
        if self.config.profile_records:
            self._keep(m)
        return m

    def _keep(self, m: Module) -> None:
        """Add the memory."""
        depth = self.config.profile_records
        m.submodules.memory = memory = Memory(shape=RecordLayout(), depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        head = Signal(range(depth))
        tail = Signal(range(depth))
        part = Signal(range(len(PROFILE_FIELDS)))

        push = self.record.valid & (self.count != depth)
        there = self.count != 0
        last = part == len(PROFILE_FIELDS) - 1
        pop = self.next & there & last
        m.d.comb += [
            write.addr.eq(tail),
            write.data.eq(self.record.payload),
            write.en.eq(push),
            read.addr.eq(Mux(pop, (head + 1)[: len(head)], head)),
        ]
        with m.If(push):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self.next & there):
            m.d.sync += part.eq(Mux(last, 0, part + 1))
        with m.If(pop):
            m.d.sync += head.eq(head + 1)
        m.d.sync += self.count.eq(self.count + push - pop)
        with m.If(self.record.valid & ~push):
            m.d.sync += self.lost.eq(self.lost + 1)

        kept = read.data
        tag = Cat(kept.index, Const(0, TAG_ENGINE_OFFSET - INDEX_BITS), kept.engine)
        words = {"TAG": tag, "ISSUE": kept.issue, "START": kept.start, "END": kept.end, "STALL": kept.stall}
        m.d.comb += self.word.eq(Mux(there, Array(words[name] for name in PROFILE_FIELDS)[part], 0))
