# SPDX-License-Identifier: Apache-2.0
"""From the bytes of instructions to their fields, each instruction checked."""

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .isa import WORD_BITS, Instruction, field_specs
from .isa_layout import encoded_layout, instruction_layout
from .legality import rules
from .ports import FaultLayout
from .registers import ErrorCode
from .timing import decode_cycles

__all__ = ["Decoder"]


class Decoder(wiring.Component):
    """Assemble the instructions of one engine from bus beats, check them and offer their fields.

    An instruction whose fields break a rule of :mod:`~.legality`, or in which a bit outside of the fields is set, is
    reported as ``ErrorCode.FIELD``, once, and never offered; nothing is taken any more until reset.

    Latency
    -------
    Fields are offered ``delay`` cycles after the first beat was taken, if one beat came each cycle. The first
    beat of the next instruction is taken in the cycle after the fields were accepted.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`
    cls : type of :class:`~.isa.Instruction`
        The engine's instruction.

    Members
    -------
    i : ``In(stream.Signature(config.bus.data_bits))``
        Beats, first byte lowest; ``cls.BYTES`` bytes for each instruction.
    o : ``Out(stream.Signature(instruction_layout(config, cls)))``
    fault : ``Out(FaultLayout())``
    empty : ``Out(1)``
        No part of an instruction is inside.
    """

    i: stream.Interface
    o: stream.Interface
    fault: data.View

    def __init__(self, config: AcceleratorConfig, cls: type[Instruction]):
        self._config = config
        self._cls = cls
        super().__init__({
            "i": In(stream.Signature(config.bus.data_bits)),
            "o": Out(stream.Signature(instruction_layout(config, cls))),
            "fault": Out(FaultLayout()),
            "empty": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def cls(self) -> type[Instruction]:
        return self._cls

    @property
    def delay(self) -> int:
        return decode_cycles(self.config, self.cls)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.config.bus.data_bits
        beats = self.cls.BYTES * 8 // bits
        encoded = Signal(encoded_layout(self.cls))
        count = Signal(range(beats + 1))
        checked = Signal()
        legal = Signal()
        refused = Signal()
        illegal = Signal()

        m.d.comb += [
            self.i.ready.eq(count != beats),
            self.empty.eq(count == 0),
            self.o.valid.eq(checked & legal),
        ]
        m.d.comb += [self.o.payload[name].eq(encoded[name]) for name in self.o.payload.shape().members]

        with m.If(self.i.valid & self.i.ready):
            m.d.sync += encoded.as_value().eq(Cat(encoded.as_value(), self.i.payload)[bits:])
            m.d.sync += count.eq(count + 1)
        # The check has a cycle of its own, so that the long chain of comparisons ends in a register.
        with m.Elif((count == beats) & ~checked):
            m.d.sync += [checked.eq(1), legal.eq(~illegal), refused.eq(illegal)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [checked.eq(0), count.eq(0)]
        with m.Else():
            m.d.sync += refused.eq(0)
        m.d.comb += [
            illegal.eq(self._illegal(encoded)),
            self.fault.valid.eq(refused),
            self.fault.code.eq(ErrorCode.FIELD),
            self.fault.index.eq(encoded.index),
        ]
        return m

    def _illegal(self, encoded: data.View) -> Value:
        gaps = (1 << self.cls.BYTES * 8) - 1
        for spec in field_specs(self.cls):
            gaps ^= ((1 << spec.bits) - 1) << (spec.word * WORD_BITS + spec.offset)
        broken = [(encoded.as_value() & Const(gaps, self.cls.BYTES * 8)).any()]
        broken += [Value.cast(rule.broken(encoded)) for rule in rules(self.config, self.cls)]
        return Cat(broken).any()
