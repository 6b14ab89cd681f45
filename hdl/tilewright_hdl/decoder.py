# SPDX-License-Identifier: Apache-2.0
"""From the bytes of instructions to their fields, each instruction checked."""

from typing import Any

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import AcceleratorConfig
from .isa import WORD_BITS, Extent, FieldSpec, Instruction, field_specs
from .isa_layout import FieldsView, instruction_layout
from .legality import rules
from .ports import FaultLayout
from .registers import ErrorCode
from .timing import decode_cycles

__all__ = ["Decoder"]


class Decoder(wiring.Component):
    """Take the fields of one engine's instructions out of bus beats, check them and offer them.

    Only the bits that the configuration has a use for are kept, see :func:`~.isa_limits.field_bits`; a beat is checked
    as it comes, except for what ties fields of several beats together.

    An instruction whose fields break a rule of :mod:`~.legality`, or in which a bit outside of the fields is set, is
    reported as ``ErrorCode.FIELD``, once, and never offered; nothing is taken any more until reset. With
    ``config.checks`` false nothing is refused, and bits that are not kept count for nothing.

    Latency
    -------
    Fields are offered ``delay`` cycles after the first beat was taken, if one beat came each cycle. The first
    beat of the next instruction is taken in the cycle after the fields were accepted; with ``config.in_flight`` at 1,
    after ``retired``, and until then ``o.payload`` holds them.

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
    retired : ``In(1)``
        The instruction that was accepted is done, one cycle later or more; used with ``config.in_flight`` at 1 only.
    fault : ``Out(FaultLayout())``
    empty : ``Out(1)``
        No part of an instruction is inside.
    """

    i: stream.Interface
    o: stream.Interface
    retired: Signal
    fault: data.View

    def __init__(self, config: AcceleratorConfig, cls: type[Instruction]):
        self._config = config
        self._cls = cls
        super().__init__({
            "i": In(stream.Signature(config.bus.data_bits)),
            "o": Out(stream.Signature(instruction_layout(config, cls))),
            "retired": In(1),
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
        beats = self.cls.BYTES // self.config.bus.data_bytes
        fields = Signal(instruction_layout(self.config, self.cls), reset_less=True)
        count = Signal(range(beats + 1))
        taken = Signal()
        checked = Signal()
        legal = Signal()
        refused = Signal()
        held = Signal()
        illegal, wrong = Signal(), Signal()

        m.d.comb += [
            self.i.ready.eq(count != beats),
            taken.eq(self.i.valid & self.i.ready),
            self.empty.eq(count == 0),
            self.o.valid.eq(checked & legal & ~held),
            self.o.payload.eq(fields),
        ]
        late = self._check_beats(m, count, wrong, fields) if self.config.checks else Const(0)
        self._keep(m, count, taken, fields)

        leaves = self.o.valid & self.o.ready
        if self.config.in_flight == 1:
            with m.If(leaves):
                m.d.sync += held.eq(1)
            with m.Elif(self.retired):
                m.d.sync += held.eq(0)
            leaves = self.retired
        with m.If(taken):
            m.d.sync += [count.eq(count + 1), illegal.eq(wrong | (illegal & ~self.empty))]
        # The check has a cycle of its own, so that the long chain of comparisons ends in a register.
        with m.Elif((count == beats) & ~checked):
            m.d.sync += [checked.eq(1), legal.eq(~(illegal | late)), refused.eq(illegal | late)]
        with m.Elif(leaves):
            m.d.sync += [checked.eq(0), count.eq(0)]
        with m.Else():
            m.d.sync += refused.eq(0)
        m.d.comb += [
            self.fault.valid.eq(refused),
            self.fault.code.eq(ErrorCode.FIELD),
            self.fault.index.eq(fields.index),
        ]
        return m

    def _keep(self, m: Module, count: Signal, taken: Signal, fields: FieldsView) -> None:
        """Load each field with its beat; bits that are always zero have no registers."""
        beat = _Beat(self.config, self.cls, self.i.payload)
        kept = fields.shape().members
        aligned = exact_log2(self.config.bus.data_bytes)
        for number in sorted({beat.number(name) for name in kept}):
            with m.If(taken & (count == number)):
                for name in (name for name in kept if beat.number(name) == number):
                    low = aligned if beat.specs[name].extent is Extent.MAIN else 0
                    m.d.sync += Value.cast(fields[name])[low:].eq(getattr(beat, name)[low:])

    def _check_beats(self, m: Module, count: Signal, wrong: Signal, fields: FieldsView) -> Value:
        """Whether the beat that is offered breaks a rule goes to ``wrong``; returned is what is left to check."""
        late: list[Value] = [Const(0)]
        tests = []
        for rule in rules(self.config, self.cls):
            if rule.pins:
                continue
            beat = _Beat(self.config, self.cls, self.i.payload)
            broken = Value.cast(rule.broken(beat))
            numbers = {beat.number(name) for name in beat.read}
            if len(numbers) == 1:
                tests.append((numbers.pop(), broken))
            else:
                late.append(Value.cast(rule.broken(fields)))
        # What is asked of the same bits of several beats is built once.
        when: dict[str, tuple[Value, list[int]]] = {}
        for number, test in tests:
            when.setdefault(repr(test), (test, []))[1].append(number)
        found = [test & count.matches(*numbers) for test, numbers in when.values()]
        for bit, places in self._pins().items():
            for numbers, bits in places.items():
                found.append(Cat(self.i.payload[place] ^ bit for place in bits).any() & count.matches(*numbers))
        m.d.comb += wrong.eq(Cat(found).any())
        return Cat(late).any()

    def _pins(self) -> dict[int, dict[tuple[int, ...], list[int]]]:
        """Bits of beats that must be 0, and those that must be 1: places in a beat, by the beats where that holds."""
        # Bits that belong to no field, and what the rules say.
        beat_bits = self.config.bus.data_bits
        must: dict[int, int] = dict.fromkeys(range(self.cls.BYTES * 8), 0)
        start = {spec.name: spec.word * WORD_BITS + spec.offset for spec in field_specs(self.cls)}
        for spec in field_specs(self.cls):
            for place in range(spec.bits):
                del must[start[spec.name] + place]
        for name, mask, value in (rule.pins for rule in rules(self.config, self.cls) if rule.pins):
            for place in range(mask.bit_length()):
                if mask >> place & 1:
                    must[start[name] + place] = value >> place & 1
        found: dict[int, dict[tuple[int, ...], list[int]]] = {0: {}, 1: {}}
        for bit, places in found.items():
            for place in range(beat_bits):
                numbers = tuple(at // beat_bits for at in sorted(must) if at % beat_bits == place and must[at] == bit)
                if numbers:
                    places.setdefault(numbers, []).append(place)
        return found


class _Beat:
    """The fields of an instruction as they stand in the beat that brings them; ``read`` are those that were asked for.

    Whether that is the beat which is there, whoever asks must know.
    """

    def __init__(self, config: AcceleratorConfig, cls: type[Instruction], payload: Value):
        self._words = config.bus.data_bits // WORD_BITS
        self._payload = payload
        self.specs: dict[str, FieldSpec] = {spec.name: spec for spec in field_specs(cls)}
        self.read: set[str] = set()

    def number(self, name: str) -> int:
        """Beat of the instruction that brings a field."""
        return self.specs[name].word // self._words

    def __getattr__(self, name: str) -> Any:
        spec = self.specs[name]
        self.read.add(name)
        value = self._payload[spec.word % self._words * WORD_BITS + spec.offset:][: spec.bits]
        return value.as_signed() if spec.signed else value
