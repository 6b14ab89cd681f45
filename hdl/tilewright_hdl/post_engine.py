# SPDX-License-Identifier: Apache-2.0
"""The POST engine: accumulators or activations in, int8 activations out.

::

    PostAddress --reads--> accumulators, parameters, activations --> PostPipeline (a PostLane a channel) --> activations
         |                                                                                 |
         +------------------ addresses of the results, in a queue -------------------------+

Memories answer in a fixed time and take what is written, so nothing here ever waits. One instruction drains before the
next one starts: then all that the instruction fixes can stand in one set of registers.
"""

from typing import Any

from amaranth import Array, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .accumulators import AccumulatorRead
from .config import AcceleratorConfig, bits_for
from .isa import BINARY, Combine, Post, Source
from .isa_layout import instruction_layout
from .ports import FaultLayout, MemoryRead, MemoryWrite
from .post_address import PostAddress
from .post_lane import lane_setup_layout
from .post_pipeline import PostPipeline, delay_queue
from .registers import ErrorCode
from .tables import table_write_signature
from .timing import PostStages

__all__ = ["PostEngine"]

class PostEngine(wiring.Component):
    """Execute :class:`~.isa.Post` instructions, one after the other.

    All reads and writes must be granted at once. A step that would touch a word outside of a memory raises
    ``ErrorCode.ADDRESS`` in place of its reads; that, and ``halt``, drops everything under way, and the engine stays
    quiet until it is reset.

    Reads run up to ``PostStages.latency`` cycles ahead of the writes of earlier steps. A result may replace the bytes
    that its own step has read, but no bytes that a later step reads.

    Latency
    -------
    ``timing.post_cycles`` from the transfer of an instruction to ``done``, always. The next can be taken with ``done``.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(config, Post)))``
    done, busy, stall : ``Out(1)``
        It never stalls.
    fault : ``Out(FaultLayout())``
    halt : ``In(1)``
    accumulator : ``Out(AccumulatorRead(...))``
    parameter : ``Out(MemoryRead(..., 8 * config.parameter_word_bytes))``
    source : ``Out(MemoryRead(..., 8 * config.array.rows))``
        Activations and residuals.
    output : ``Out(MemoryWrite(..., 8 * config.array.rows, config.row_groups))``
    table : ``In(MemoryWrite(...))``
        Always ready.
    saturated : ``Out(range(lanes + 1))``
        Lanes whose first rescale was clamped in a step that is not padding; to be summed up over all cycles.
    """

    instruction: stream.Interface
    done: Signal
    busy: Signal
    stall: Signal
    fault: Any
    halt: Signal
    accumulator: wiring.PureInterface
    parameter: wiring.PureInterface
    source: wiring.PureInterface
    output: wiring.PureInterface
    table: wiring.PureInterface
    saturated: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        words, row_bits = bits_for(config.activation_words), 8 * config.array.rows
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(config, Post))),
            "done": Out(1),
            "busy": Out(1),
            "stall": Out(1),
            "fault": Out(FaultLayout()),
            "halt": In(1),
            "accumulator": Out(AccumulatorRead(bits_for(config.memory.accumulator_entries), config.array.columns)),
            "parameter": Out(MemoryRead(bits_for(config.memory.parameter_groups), 8 * config.parameter_word_bytes)),
            "source": Out(MemoryRead(words, row_bits)),
            "output": Out(MemoryWrite(words, row_bits, config.row_groups)),
            "table": In(table_write_signature(config)),
            "saturated": Out(range(config.post.lanes + 1)),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        m.submodules.address = address = PostAddress(self.config)
        m.submodules.pipeline = pipeline = PostPipeline(self.config)
        setup = Signal(lane_setup_layout(self.config))
        index = Signal.like(self.instruction.payload.index)
        running, issuing, stopped = Signal(), Signal(), Signal()
        start, enter = Signal(), Signal()

        m.d.comb += [
            self.instruction.ready.eq((~running | self.done) & ~stopped & ~self.halt),
            start.eq(self.instruction.valid & self.instruction.ready),
            self.busy.eq(running),
            address.load.eq(start),
            address.instruction.eq(self.instruction.payload),
            address.advance.eq(enter),
            self.fault.valid.eq(issuing & address.refused & ~self.halt),
            self.fault.code.eq(ErrorCode.ADDRESS),
            self.fault.index.eq(index),
            pipeline.setup.eq(setup),
            pipeline.clear.eq(self.halt | self.fault.valid),
        ]
        with m.If(self.done):
            m.d.sync += running.eq(0)
        with m.If(enter & address.step.final):
            m.d.sync += issuing.eq(0)
        with m.If(start):
            m.d.sync += [running.eq(1), issuing.eq(1), index.eq(self.instruction.payload.index)]
            m.d.sync += [setup[name].eq(self.instruction.payload[name]) for name in setup.shape().members]
        with m.If(pipeline.clear):
            m.d.sync += [running.eq(0), issuing.eq(0), stopped.eq(1)]

        self._read(m, address.step, setup, issuing & ~address.refused & ~self.halt, enter, pipeline)
        self._write(m, address.step, enter, pipeline)
        wiring.connect(m, wiring.flipped(self.table), pipeline.table)
        m.d.comb += self.saturated.eq(pipeline.saturated)

        return m

    def _read(self, m: Module, step: Any, setup: Any, issuing: Value, enter: Signal, pipeline: PostPipeline) -> None:
        """Read what a step needs, and put it into the pipeline when it arrives."""
        post, lanes = self.config.post, self.config.post.lanes
        from_activation = setup.source == Source.ACTIVATION
        residual = Signal()
        # Cycles of this step that have passed. With both operands behind one port, the residual comes first.
        passed = Signal(range(max(post.interval, 2)))
        least = Signal.like(passed)
        binary = setup.combine.matches(*BINARY) if post.binary else Const(0)
        direct = from_activation & setup.combine.matches(Combine.NONE, Combine.MAX)
        m.d.comb += [
            residual.eq(issuing & binary & (passed == 0)),
            least.eq(Mux(from_activation & binary, max(post.interval, 2), post.interval) - 1),
            enter.eq(issuing & (direct | (passed == least))),
        ]
        m.d.sync += passed.eq(Mux(issuing & ~enter, passed + 1, 0))

        m.d.comb += [
            self.accumulator.valid.eq(enter & step.inside & ~from_activation),
            self.accumulator.bank.eq(step.bank),
            self.accumulator.address.eq(step.source),
            self.parameter.valid.eq(enter & ~from_activation),
            self.parameter.address.eq(step.parameter),
            self.source.valid.eq(residual | (enter & step.inside & from_activation)),
            self.source.address.eq(Mux(residual, step.residual, step.source)),
            pipeline.step.eq(enter),
            pipeline.interior.eq(step.inside),
            pipeline.first.eq(step.first),
            pipeline.last.eq(step.last),
        ]

        column_part, row_part = Signal.like(step.column_part), Signal.like(step.row_part)
        m.d.sync += [column_part.eq(step.column_part), row_part.eq(step.row_part), pipeline.residual.eq(residual)]
        activations = data.View(data.ArrayLayout(signed(8), self.config.array.rows), self.source.data)
        m.d.comb += pipeline.parameter.eq(self.parameter.data)
        for lane in range(lanes):
            m.d.comb += [
                pipeline.accumulator[lane].eq(
                    Array(self.accumulator.data[i] for i in range(lane, self.config.array.columns, lanes))[column_part]
                ),
                pipeline.activation[lane].eq(
                    Array(activations[i] for i in range(lane, self.config.array.rows, lanes))[row_part]
                ),
            ]

    def _write(self, m: Module, step: Any, enter: Signal, pipeline: PostPipeline) -> None:
        """Write the results where their last steps said."""
        stages = PostStages.of(self.config.post)
        layout = data.StructLayout({
            "address": len(self.output.address), "part": len(step.row_part), "final": 1,
        })
        # Activations that are not rescaled come one a cycle, others one an interval.
        most = max(stages.latency(Source.ACTIVATION, Combine.NONE), stages.result // self.config.post.interval)
        m.submodules.targets = targets = delay_queue(layout.size, most)
        target, reached = Signal(layout), data.View(layout, targets.r_data)
        m.d.comb += [
            target.address.eq(step.output),
            target.part.eq(step.row_part),
            target.final.eq(step.final),
            targets.w_data.eq(target),
            targets.w_en.eq(enter & step.last),
            targets.r_en.eq(pipeline.valid),
            self.output.valid.eq(pipeline.valid),
            self.output.address.eq(reached.address),
            self.output.data.eq(pipeline.result.as_value().replicate(self.config.row_groups)),
            self.output.mask.eq(1 << reached.part),
            self.done.eq(pipeline.valid & reached.final),
        ]
