# SPDX-License-Identifier: Apache-2.0
"""The lanes of the post-processor side by side, and what is under way in them."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS, AcceleratorConfig
from .isa import BINARY, Combine, Source
from .once import once
from .post_lane import PostLane, lane_setup_layout
from .tables import table_write_signature
from .timing import PostStages

__all__ = ["ParameterLayout", "PostPipeline", "delay_queue"]

_BLOCK_DEPTH = 16
"""Entries from which on a queue is better kept in block RAM than in registers."""


class ParameterLayout(data.StructLayout):
    """Word of the parameter memory; see :class:`~.isa.Load`."""

    def __init__(self, lanes: int):
        super().__init__({
            "bias": data.ArrayLayout(signed(ACCUMULATOR_BITS), lanes),
            "multiplier": data.ArrayLayout(32, lanes),
            "shift": data.ArrayLayout(8, lanes),
        })


def delay_queue(width: int, most: int) -> fifo.FIFOInterface:
    """Queue of at most ``most`` entries, each of which is read two cycles after it was written at the earliest."""
    depth = 1 << most.bit_length()
    kind = fifo.SyncFIFOBuffered if depth >= _BLOCK_DEPTH else fifo.SyncFIFO
    return kind(width=width, depth=depth)


class PostPipeline(wiring.Component):
    """All lanes of the post-processor.

    Latency
    -------
    A window's result comes ``PostStages.latency`` cycles after the step that is its last.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    setup : ``In(lane_setup_layout(config))``
        Steady while anything is under way.
    clear : ``In(1)``
        Drop everything that is under way.
    step, interior, first, last : ``In(1)``
        An element enters: it is not padding; it is the first, the last of its window.
    accumulator : ``In(ArrayLayout(signed(32), lanes))``
    parameter : ``In(ParameterLayout(lanes))``
        Both at stage ``read`` of their step.
    activation : ``In(ArrayLayout(signed(8), lanes))``
        Source at stage ``read`` of its step, or residual.
    residual : ``In(1)``
        ``activation`` is a residual; they come in the order of their steps, at that stage or before.
    table : ``In(table_write_signature(config))``
        Always ready.
    valid : ``Out(1)``
    result : ``Out(ArrayLayout(signed(8), lanes))``
        Results of a window.
    saturated : ``Out(range(lanes + 1))``
        Lanes of a step whose first rescale was clamped; each step counts in one cycle, not later than its window's
        result.
    """

    setup: Any
    clear: Signal
    step: Signal
    interior: Signal
    first: Signal
    last: Signal
    accumulator: Any
    parameter: Any
    activation: Any
    residual: Signal
    table: wiring.PureInterface
    valid: Signal
    result: Any
    saturated: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._stages = PostStages.of(config.post)
        lanes = config.post.lanes
        super().__init__({
            "setup": In(lane_setup_layout(config)),
            "clear": In(1),
            "step": In(1),
            "interior": In(1),
            "first": In(1),
            "last": In(1),
            "accumulator": In(data.ArrayLayout(signed(ACCUMULATOR_BITS), lanes)),
            "parameter": In(ParameterLayout(lanes)),
            "activation": In(data.ArrayLayout(signed(8), lanes)),
            "residual": In(1),
            "table": In(table_write_signature(config)),
            "valid": Out(1),
            "result": Out(data.ArrayLayout(signed(8), lanes)),
            "saturated": Out(range(lanes + 1)),
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
        # A step's flags by stage, as far as `combined`; a window's last step alone goes further.
        valid, enable = self._follow(m, "valid", self.step)
        interior, _ = self._follow(m, "interior", self.interior)
        first, _ = self._follow(m, "first", self.first)
        last, _ = self._follow(m, "last", self.last)
        finished = valid[stages.combined] & last[stages.combined]
        rescaled, enable_rescaled = self._follow_rescaled(m, valid[stages.combined], finished)
        direct = setup.combine.matches(Combine.NONE, Combine.MAX)
        m.d.comb += [
            self.valid.eq(rescaled | (finished & direct)),
            self.table.ready.eq(1),
        ]

        residual = self._residual(m, enable[stages.combined])
        clamped = Signal(self.config.post.lanes)
        make = once(platform, PostLane, self.config)
        for index in range(self.config.post.lanes):
            m.submodules[f"lane_{index}"] = lane = make()
            m.d.comb += [
                lane.setup.eq(setup),
                lane.enable.eq(Cat(*enable[stages.biased :], *enable_rescaled)),
                lane.accumulator.eq(self.accumulator[index]),
                lane.bias.eq(self.parameter.bias[index]),
                lane.multiplier.eq(self.parameter.multiplier[index]),
                lane.shift.eq(self.parameter.shift[index]),
                lane.source.eq(self.activation[index]),
                lane.interior.eq(interior[stages.mapped]),
                lane.first.eq(first[stages.mapped]),
                lane.residual.eq(residual[index]),
                lane.table.valid.eq(self.table.valid),
                lane.table.address.eq(self.table.address),
                lane.table.data.eq(self.table.data),
                lane.table.mask.eq(self.table.mask),
                clamped[index].eq(lane.clamped),
                self.result[index].eq(lane.result),
            ]

        m.d.sync += self.saturated.eq(0)
        with m.If(valid[stages.value] & interior[stages.value] & (setup.source == Source.ACCUMULATOR) & ~self.clear):
            m.d.sync += self.saturated.eq(sum(clamped))

        return m

    def _follow(self, m: Module, name: str, head: Value) -> tuple[list[Value], list[Value]]:
        """Flag of each stage from the reads to ``combined``, and that which each takes over in this cycle.

        An activation goes from ``read`` straight to ``value``.
        """
        stages = self.stages
        flags = Signal(stages.combined, name=name)
        at = [head, *flags]
        before: list[Value] = [*at[:-1]]
        from_activation = self.setup.source == Source.ACTIVATION
        before[stages.biased - 1] = at[stages.read] & ~from_activation
        before[stages.value - 1] = Mux(from_activation, at[stages.read], at[stages.value - 1])
        m.d.sync += flags.eq(Mux(self.clear, 0, Cat(*before)))
        return at, [head, *before]

    def _follow_rescaled(self, m: Module, combined: Value, finished: Value) -> tuple[Value, list[Value]]:
        """Whether a window is at stage ``result``, and what each stage after ``combined`` takes over in this cycle.

        The sum of a window goes from ``combined`` straight to ``total``.
        """
        stages, combine = self.stages, self.setup.combine
        flags = Signal(stages.result - stages.combined, name="rescaled")
        before: list[Value] = [combined & combine.matches(*BINARY), *flags[:-1]]
        before[stages.total - stages.combined - 1] |= finished & (combine == Combine.AVERAGE)
        m.d.sync += flags.eq(Mux(self.clear, 0, Cat(*before)))
        return flags[-1], before

    def _residual(self, m: Module, combine: Value) -> Any:
        """Residual of the step at stage ``mapped``; it waits here while the accumulator is requantized."""
        lanes = data.ArrayLayout(signed(8), self.config.post.lanes)
        if not self.config.post.binary:
            return Signal(lanes)
        # One an interval comes at most, and none stays longer than until its step is at `mapped`.
        most = self.stages.mapped // self.config.post.interval + 1
        m.submodules.residuals = residuals = delay_queue(lanes.size, most)
        m.d.comb += [
            residuals.w_data.eq(self.activation),
            residuals.w_en.eq(self.residual),
            residuals.r_en.eq(combine & self.setup.combine.matches(*BINARY)),
        ]
        return data.View(lanes, residuals.r_data)
