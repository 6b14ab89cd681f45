# SPDX-License-Identifier: Apache-2.0
"""The POST engine: accumulators or activations in, int8 activations out.

::

    PostAddress --reads--> accumulators, parameters, activations --> PostPipeline (a PostLane a channel) --> activations
         |                                                                                 |
         +------------------ addresses of the results, in a queue -------------------------+

Memories answer in a fixed time and take what is written, so nothing here ever waits. One instruction drains before the
next one starts: then all that the instruction fixes can stand in one set of registers.

With serial lanes (``timing.serial_digit``) there is no pipeline and no queue: a step has its interval for itself, from
the read to the write, and operands stay in the outputs of the memories.
"""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .accumulators import AccumulatorRead
from .config import AcceleratorConfig, bits_for
from .held import fields_of
from .isa import BINARY, Combine, Post, Source
from .isa_layout import instruction_layout
from .ports import FaultLayout, MemoryRead, MemoryWrite
from .post_address import PostAddress
from .post_pipeline import PostPipeline, delay_queue
from .registers import ErrorCode
from .serial_lanes import SerialLanes
from .tables import table_write_signature
from .timing import PostStages, serial_digit

__all__ = ["PostEngine"]


class PostEngine(wiring.Component):
    """Execute :class:`~.isa.Post` instructions, one after the other.

    All reads and writes must be granted at once. A step that would touch a word outside of a memory raises
    ``ErrorCode.ADDRESS`` in place of its reads, or with ``post.registered`` in the cycle after them; that, and
    ``halt``, drops everything under way, and the engine stays quiet until it is reset. Serial lanes need what was
    read of accumulators and parameters until the next read.

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
        running, issuing, stopped = Signal(), Signal(), Signal()
        start, enter, stop = Signal(), Signal(), Signal()
        fields = fields_of(m, self.config, self.instruction, start)

        m.d.comb += [
            self.instruction.ready.eq((~running | self.done) & ~stopped & ~self.halt),
            start.eq(self.instruction.valid & self.instruction.ready),
            self.busy.eq(running),
            address.load.eq(start),
            address.instruction.eq(self.instruction.payload),
            address.fields.eq(fields),
            address.advance.eq(enter),
            self.fault.code.eq(ErrorCode.ADDRESS),
            self.fault.index.eq(fields.index),
            stop.eq(self.halt | self.fault.valid),
        ]
        with m.If(self.done):
            m.d.sync += running.eq(0)
        with m.If(enter & address.step.final):
            m.d.sync += issuing.eq(0)
        with m.If(start):
            m.d.sync += [running.eq(1), issuing.eq(1)]
        with m.If(stop):
            m.d.sync += [running.eq(0), issuing.eq(0), stopped.eq(1)]

        if serial_digit(self.config.post):
            self._one_by_one(m, fields, address, running, enter)
        else:
            m.submodules.pipeline = pipeline = PostPipeline(self.config)
            refused = Signal()
            domain = m.d.sync if self.config.post.registered else m.d.comb
            domain += refused.eq(issuing & address.refused)
            m.d.comb += [
                self.fault.valid.eq(refused & ~self.halt & ~stopped),
                pipeline.clear.eq(stop),
                self.saturated.eq(pipeline.saturated),
                *(pipeline.setup[name].eq(fields[name]) for name in pipeline.setup.shape().members),
            ]
            wiring.connect(m, wiring.flipped(self.table), pipeline.table)
            # What follows a step that is refused is cleared before it gets anywhere.
            allowed = Const(1) if self.config.post.registered else ~address.refused
            self._read(m, address.step, self._pace(m, start), issuing & allowed & ~self.halt, enter, pipeline)
            self._write(m, address.step, enter, pipeline)

        return m

    def _one_by_one(self, m: Module, fields: Any, address: PostAddress, running: Value, enter: Signal) -> None:
        """Read an accumulator in the first cycle of an interval, and write what it becomes in the last."""
        step, interval = address.step, self.config.post.interval
        m.submodules.lanes = lanes = SerialLanes(self.config)
        # Begins at its end: the read is that of the cycle before the first place.
        place = Signal(range(interval), init=interval - 1)
        # In the last place and in the one before: registers, as LOAD and EXEC wait in the cycle of a write.
        reads, writes = Signal(init=1), Signal()
        with m.If(running):
            m.d.sync += [place.eq(Mux(reads, 0, place + 1)), writes.eq(place == interval - 3), reads.eq(writes)]
        wiring.connect(m, wiring.flipped(self.table), lanes.table)
        m.d.comb += [
            enter.eq(writes & running),
            self.fault.valid.eq(reads & running & address.refused & ~self.halt),
            self.accumulator.valid.eq(reads & running & ~address.refused & ~self.halt),
            self.accumulator.bank.eq(step.bank),
            self.accumulator.address.eq(step.source),
            self.parameter.valid.eq(self.accumulator.valid),
            self.parameter.address.eq(step.parameter),
            *(lanes.setup[name].eq(fields[name]) for name in lanes.setup.shape().members),
            lanes.clear.eq(reads),
            lanes.place.eq(place),
            lanes.parameter.eq(self.parameter.data),
            self.output.valid.eq(enter),
            self.output.address.eq(step.output),
            self.output.data.eq(lanes.result.as_value().replicate(self.config.row_groups)),
            self.output.mask.eq(1 << step.row_part),
            self.done.eq(enter & step.final),
            self.saturated.eq(Mux(enter, lanes.saturated, 0)),
        ]
        chosen = (1 << step.column_part)[:self.config.column_groups]
        entry = Signal.like(self.accumulator.data)
        m.d.comb += [*self._chosen(entry, self.accumulator.data, chosen), *self._gathered(lanes.accumulator, entry)]

    def _chosen(self, targets: Any, values: Any, chosen: Value) -> list[Any]:
        """Let pass one group of values, that whose bit is set; the others become zeros."""
        return [target.eq(Mux(chosen[place // self.config.post.lanes], value, 0))
                for place, (target, value) in enumerate(zip(targets, values, strict=True))]

    def _gathered(self, targets: Any, values: Any) -> list[Any]:
        """Give the lanes the group that is not zero."""
        lanes = self.config.post.lanes
        return [target.eq(reduce(or_, list(values)[lane::lanes])) for lane, target in enumerate(targets)]

    def _pace(self, m: Module, start: Value) -> tuple[Signal, Signal, Signal]:
        """What an instruction says of all its steps: cycles of each but one, has it a residual, is it an activation."""
        post, instruction = self.config.post, self.instruction.payload
        least, binary, from_activation = Signal(range(max(post.interval, 2))), Signal(), Signal()
        is_activation = instruction.source == Source.ACTIVATION
        is_binary = instruction.combine.matches(*BINARY) if post.binary else Const(0)
        direct = is_activation & instruction.combine.matches(Combine.NONE, Combine.MAX)
        # With both operands behind one port, the residual comes first.
        cycles = Mux(is_activation & is_binary, max(post.interval, 2), post.interval)
        with m.If(start):
            m.d.sync += [least.eq(Mux(direct, 0, cycles - 1)), binary.eq(is_binary), from_activation.eq(is_activation)]
        return least, binary, from_activation

    def _read(
        self, m: Module, step: Any, pace: tuple[Signal, Signal, Signal], issuing: Value, enter: Signal,
        pipeline: PostPipeline
    ) -> None:
        """Read what a step needs, and put it into the pipeline when it arrives."""
        post = self.config.post
        least, binary, from_activation = pace
        residual = Signal()
        # Cycles of this step that have passed.
        passed = Signal.like(least)
        m.d.comb += [
            residual.eq(issuing & binary & (passed == 0)),
            enter.eq(issuing & (passed == least)),
        ]
        m.d.sync += passed.eq(Mux(issuing & ~enter, passed + 1, 0))

        domain = m.d.sync if post.registered else m.d.comb
        parameter = Signal(data.StructLayout({"valid": 1, "address": len(step.parameter)}))
        domain += [
            self.accumulator.valid.eq(enter & step.inside & ~from_activation),
            self.accumulator.bank.eq(step.bank),
            self.accumulator.address.eq(step.source),
            self.source.valid.eq(residual | (enter & step.inside & from_activation)),
            self.source.address.eq(Mux(residual, step.residual, step.source)),
            # All lanes take the whole word, so it is read in the cycle in which they are chosen from the others.
            parameter.valid.eq(enter & ~from_activation),
            parameter.address.eq(step.parameter),
            self.parameter.valid.eq(parameter.valid),
            self.parameter.address.eq(parameter.address),
        ]
        m.d.comb += [
            pipeline.step.eq(enter),
            pipeline.interior.eq(step.inside),
            pipeline.first.eq(step.first),
            pipeline.last.eq(step.last),
        ]
        self._arrive(m, domain, step, residual, pipeline)

    def _arrive(self, m: Module, domain: Any, step: Any, residual: Value, pipeline: PostPipeline) -> None:
        """Put what was read into the pipeline, each lane's part of it."""
        # A bit for each group, for a number would have to be decoded behind the memories.
        parts = {"column_part": self.config.column_groups, "row_part": self.config.row_groups}
        asked = Signal(data.StructLayout(parts | {"residual": 1}))
        answered = Signal.like(asked)
        residual_late = Signal()
        # The other groups are zeros behind the memories, where that takes no gates of its own.
        accumulators = Signal.like(self.accumulator.data, name="accumulators")
        activations = Signal(data.ArrayLayout(signed(8), self.config.array.rows))
        words = data.View(activations.shape(), self.source.data)
        domain += [asked.residual.eq(residual), *(asked[name].eq(1 << step[name]) for name in parts)]
        m.d.sync += answered.eq(asked)
        domain += [
            residual_late.eq(answered.residual),
            pipeline.residual.eq(residual_late),
            pipeline.parameter.eq(self.parameter.data),
            *self._chosen(accumulators, self.accumulator.data, answered.column_part),
            *self._chosen(activations, words, answered.row_part),
            *self._gathered(pipeline.accumulator, accumulators),
            *self._gathered(pipeline.activation, activations),
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
        ]
        domain = m.d.sync if self.config.post.registered else m.d.comb
        domain += [
            self.output.valid.eq(pipeline.valid),
            self.output.address.eq(reached.address),
            self.output.data.eq(pipeline.result.as_value().replicate(self.config.row_groups)),
            self.output.mask.eq(1 << reached.part),
            self.done.eq(pipeline.valid & reached.final),
        ]
