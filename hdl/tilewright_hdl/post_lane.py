# SPDX-License-Identifier: Apache-2.0
"""One channel of the post-processor."""

from functools import cache
from typing import Any

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS, AcceleratorConfig
from .isa import BINARY, Combine, Post, Source
from .isa_layout import FieldsLayout, instruction_layout
from .numerics import ADD_LEFT_SHIFT, SHIFT_BITS
from .requantize import Requantize, Rescale
from .tables import TableMemory, table_write_signature
from .timing import PostStages, shift_delay

__all__ = ["PostLane", "lane_setup_layout"]


@cache
def lane_setup_layout(config: AcceleratorConfig) -> FieldsLayout:
    """Fields of a :class:`~.isa.Post` that a lane works by."""
    return instruction_layout(config, Post).only((
        "source", "combine", "rounding", "pad_value",
        "zero_point", "low", "high",
        "offset", "multiplier_out", "shift_out", "zero_point_out", "low_out", "high_out",
        "use_table", "table_index",
        "zero_point_a", "zero_point_b", "multiplier_a", "shift_a", "multiplier_b", "shift_b",
    ))


class PostLane(wiring.Component):
    """Arithmetic of the post-processor for one channel; see :class:`.isa.Post` for what it computes.

    It knows nothing of addresses and of what is under way: each register of the pipeline loads in a cycle with its bit
    of ``enable`` and stands still otherwise. There is no reset.

    Latency
    -------
    Inputs are taken by the register that follows the stage which is named with them.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    setup : ``In(lane_setup_layout(config))``
        Steady while anything is under way.
    enable : ``In(stages.result - stages.read)``
        One bit for each stage from ``biased`` to ``result``; see :class:`.timing.PostStages`.
    accumulator, bias : ``In(signed(32))``
    multiplier : ``In(config.post.multiplier_bits)``
    shift : ``In(SHIFT_BITS)``
        All at stage ``read``.
    source : ``In(signed(8))``
        Activation, at stage ``read``.
    interior, first : ``In(1)``
        At stage ``mapped``: the element is not padding; it is the first of its window.
    residual : ``In(signed(8))``
        At stage ``mapped``.
    table : ``In(table_write_signature(config))``
    clamped : ``Out(1)``
        At stage ``value``: the requantized accumulator was clamped.
    result : ``Out(signed(8))``
        At stage ``combined`` with ``NONE`` and ``MAX``, at stage ``result`` with the others.
    """

    reset_less = True

    setup: Any
    enable: Signal
    accumulator: Signal
    bias: Signal
    multiplier: Signal
    shift: Signal
    source: Signal
    interior: Signal
    first: Signal
    residual: Signal
    table: wiring.PureInterface
    clamped: Signal
    result: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._stages = PostStages.of(config.post)
        super().__init__({
            "setup": In(lane_setup_layout(config)),
            "enable": In(self._stages.result - self._stages.read),
            "accumulator": In(signed(ACCUMULATOR_BITS)),
            "bias": In(signed(ACCUMULATOR_BITS)),
            "multiplier": In(config.post.multiplier_bits),
            "shift": In(SHIFT_BITS),
            "source": In(signed(8)),
            "interior": In(1),
            "first": In(1),
            "residual": In(signed(8)),
            "table": In(table_write_signature(config)),
            "clamped": Out(1),
            "result": Out(signed(8)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def stages(self) -> PostStages:
        return self._stages

    def elaborate(self, platform: object) -> Module:
        m = Module()

        stages, setup = self.stages, self.setup
        mapped = self._mapped(m, self._value(m))
        direct = setup.combine.matches(Combine.NONE, Combine.MAX)

        best = Signal(signed(8), reset_less=True)
        total = Signal(signed(ACCUMULATOR_BITS), reset_less=True)
        with m.If(self._enable(stages.combined)):
            with m.If(setup.combine == Combine.AVERAGE):
                m.d.sync += total.eq(Mux(self.first, setup.offset, total) + mapped)
            with m.Elif(direct):
                m.d.sync += best.eq(Mux(self.first | (mapped > best), mapped, best))

        operand = Signal(signed(ACCUMULATOR_BITS), reset_less=True)
        m.submodules.requantize_out = out = Requantize(self.config.post, ACCUMULATOR_BITS)
        joined = self._joined(m, mapped) if self.config.post.binary else total
        with m.If(self._enable(stages.total)):
            m.d.sync += operand.eq(Mux(setup.combine == Combine.AVERAGE, total, joined))
        m.d.comb += [
            out.enable.eq(self._enable(stages.total + 1, stages.result)),
            out.value.eq(operand),
            out.multiplier.eq(setup.multiplier_out),
            out.shift.eq(setup.shift_out),
            out.rounding.eq(setup.rounding),
            out.zero_point.eq(setup.zero_point_out),
            out.low.eq(setup.low_out),
            out.high.eq(setup.high_out),
        ]
        m.d.comb += self.result.eq(Mux(direct, best, out.result))

        return m

    def _enable(self, first: int, last: int | None = None) -> Value:
        """Enable of a stage, or of all from ``first`` to ``last``."""
        begin = first - self.stages.biased
        return self.enable[begin] if last is None else self.enable[begin : last - self.stages.biased + 1]

    def _value(self, m: Module) -> Value:
        """Requantized accumulator or activation, at stage ``value``."""
        stages, setup = self.stages, self.setup
        m.submodules.requantize = requantize = Requantize(self.config.post, ACCUMULATOR_BITS)
        biased = Signal(signed(ACCUMULATOR_BITS), reset_less=True)
        multiplier = Signal.like(self.multiplier, reset_less=True)
        with m.If(self._enable(stages.biased)):
            m.d.sync += [biased.eq(self.accumulator + self.bias), multiplier.eq(self.multiplier)]
        # The shift waits while the product is made; it may change from step to step, at a group's end. A serial
        # multiplier is done before the next operands come, and their shift.
        shift = self.shift
        steps = shift_delay(self.config.post) if self.config.post.interval == 1 else 1
        for stage in range(stages.biased, stages.biased + steps + 1):
            following = Signal(SHIFT_BITS, reset_less=True, name=f"shift_{stage}")
            with m.If(self._enable(stage)):
                m.d.sync += following.eq(shift)
            shift = following
        m.d.comb += [
            requantize.enable.eq(self._enable(stages.biased + 1, stages.value)),
            requantize.value.eq(biased),
            requantize.multiplier.eq(multiplier),
            requantize.shift.eq(shift),
            requantize.rounding.eq(setup.rounding),
            requantize.zero_point.eq(setup.zero_point),
            requantize.low.eq(setup.low),
            requantize.high.eq(setup.high),
            self.clamped.eq(requantize.clamped),
        ]
        activation = Signal(signed(8), reset_less=True)
        with m.If(self._enable(stages.value)):
            m.d.sync += activation.eq(self.source)
        return Mux(setup.source == Source.ACTIVATION, activation, requantize.result)

    def _mapped(self, m: Module, value: Value) -> Value:
        """Image of the value, or the padding, at stage ``mapped``."""
        if self.config.post.tables:
            m.submodules.tables = table = TableMemory(self.config)
            plain = value
            for stage in range(self.stages.value + 1, self.stages.mapped + 1):
                following = Signal(signed(8), reset_less=True, name=f"plain_{stage}")
                with m.If(self._enable(stage)):
                    m.d.sync += following.eq(plain)
                plain = following
            m.d.comb += [
                table.write.valid.eq(self.table.valid),
                table.write.address.eq(self.table.address),
                table.write.data.eq(self.table.data),
                table.write.mask.eq(self.table.mask),
                table.enable.eq(self._enable(self.stages.value + 1) & self.setup.use_table),
                table.index.eq(self.setup.table_index),
                table.value.eq(value),
            ]
            value = Mux(self.setup.use_table, table.image, plain)
        m.d.comb += self.table.ready.eq(1)
        return Mux(self.interior, value, self.setup.pad_value)

    def _joined(self, m: Module, mapped: Value) -> Value:
        """Sum, difference or product with the residual, one stage before ``total``."""
        stages, setup = self.stages, self.setup
        operands: list[Value] = []
        for name, value in (("a", mapped), ("b", self.residual)):
            operand = Signal(signed(9), reset_less=True, name=f"operand_{name}")
            with m.If(self._enable(stages.combined) & setup.combine.matches(*BINARY)):
                m.d.sync += operand.eq(value - setup[f"zero_point_{name}"])
            operands.append(operand)
        if not self.config.post.multiply:
            return self._sum(m, *operands)
        product = self._product(m, *operands)
        if not self.config.post.add:
            return product
        return Mux(setup.combine == Combine.MULTIPLY, product, self._sum(m, *operands))

    def _sum(self, m: Module, a: Value, b: Value) -> Value:
        """Sum or difference of both operands at their common scale, one stage before ``total``; it wraps."""
        stages, setup = self.stages, self.setup
        terms: list[Any] = []
        for name, operand in (("a", a), ("b", b)):
            m.submodules[f"rescale_{name}"] = rescale = Rescale(self.config.post, len(operand), ADD_LEFT_SHIFT)
            m.d.comb += [
                rescale.enable.eq(self._enable(stages.combined + 1, stages.total - 1)),
                rescale.value.eq(operand),
                rescale.multiplier.eq(setup[f"multiplier_{name}"]),
                rescale.shift.eq(setup[f"shift_{name}"]),
                rescale.rounding.eq(setup.rounding),
            ]
            # (twice + 1) >> 1 without an adder of its own.
            terms += [rescale.twice[1 : ACCUMULATOR_BITS + 1], rescale.twice[0]]
        # Modulo 2**32, -(x + bit) is ~x + ~bit.
        subtract = setup.combine == Combine.SUBTRACT
        terms[2:] = [term ^ subtract.replicate(len(term)) for term in terms[2:]]
        return (terms[0] + terms[2] + terms[1] + terms[3])[:ACCUMULATOR_BITS].as_signed()

    def _product(self, m: Module, a: Value, b: Value) -> Value:
        """Product of both operands, one stage before ``total``."""
        product: Value = Signal(signed(len(a) + len(b)))
        m.d.comb += product.eq(a * b)
        for stage in range(self.stages.combined + 1, self.stages.total):
            following = Signal.like(product, reset_less=True, name=f"product_{stage}")
            with m.If(self._enable(stage)):
                m.d.sync += following.eq(product)
            product = following
        return product
