# SPDX-License-Identifier: Apache-2.0
"""The compute engine."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .accumulators import AccumulatorRead, Accumulators
from .array import SystolicArray
from .config import AcceleratorConfig, bits_for
from .delay_line import DelayLine
from .isa import Exec
from .isa_layout import instruction_layout
from .pass_sequencer import PassSequencer
from .ports import FaultLayout, MemoryRead
from .registers import ErrorCode
from .timing import EXEC_READ, accumulator_read, array_delay, exec_drain
from .vector_streamer import VectorStreamer

__all__ = ["ExecEngine"]


class ExecEngine(wiring.Component):
    """Execute :class:`~tilewright_hdl.isa.Exec`: convolve activations with weights into the accumulators.

    Instructions overlap: while the vectors of one are streamed, the weights of the next are loaded, and the sums of
    the one before are still on their way. An error comes to light at the vector that it belongs to; the engine issues
    nothing from then on, and what was issued before runs out.

    Latency
    -------
    See :func:`~tilewright_hdl.timing.exec_cycles`.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(config, Exec)))``
        Legal fields, tokens taken.
    activation : ``Out(MemoryRead(...))``
        Activation scratchpad.
    weight : ``Out(MemoryRead(...))``
        Weight scratchpad; must always be ready.
    accumulator : ``In(AccumulatorRead(...))``
        Port of the post-processor. In a cycle in which the array adds to the same bank it gets nothing sensible.
    done : ``Out(1)``
        Pulse for each instruction, in order: a read in the next cycle sees all its sums.
    stall : ``Out(1)``
        Under way, but no vector was issued in this cycle: its read was not granted, or its weights are not there yet.
    busy : ``Out(1)``
        Instructions, or sums of stopped instructions, are under way.
    fault : ``Out(FaultLayout())``
        ``ErrorCode.ADDRESS``: a word or an entry outside of its memory; it is not accessed.
    halt : ``In(1)``
        Level: begin nothing new, issue no vector.
    """

    instruction: Any
    activation: Any
    weight: Any
    accumulator: Any
    done: Signal
    stall: Signal
    busy: Signal
    fault: Any
    halt: Signal

    def __init__(self, config: AcceleratorConfig):
        if not isinstance(config, AcceleratorConfig):
            raise TypeError(f"config must be an AcceleratorConfig, not {config!r}")
        self._config = config
        array, entries = config.array, config.memory.accumulator_entries
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(config, Exec))),
            "activation": Out(MemoryRead(bits_for(config.activation_words), 8 * array.rows)),
            "weight": Out(MemoryRead(bits_for(config.weight_words), 8 * array.columns)),
            "accumulator": In(AccumulatorRead(bits_for(entries), array.columns)),
            "done": Out(1),
            "stall": Out(1),
            "busy": Out(1),
            "fault": Out(FaultLayout()),
            "halt": In(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        m.submodules.sequencer = sequencer = PassSequencer(self._config)
        m.submodules.streamer = streamer = VectorStreamer(self._config)
        m.submodules.array = array = SystolicArray(self._config.array)
        m.submodules.accumulators = accumulators = Accumulators(self._config)
        wiring.connect(m, wiring.flipped(self.instruction), sequencer.instruction)
        wiring.connect(m, sequencer.weight, wiring.flipped(self.weight))
        wiring.connect(m, sequencer.passes, streamer.passes)
        wiring.connect(m, streamer.activation, wiring.flipped(self.activation))
        wiring.connect(m, wiring.flipped(self.accumulator), accumulators.read)
        m.d.comb += [
            sequencer.swapped.eq(streamer.swapped),
            array.vector.eq(streamer.vector),
            array.swap.eq(streamer.swap),
            array.pixel.eq(streamer.pixel),
            array.slice.eq(streamer.slice),
            array.weights.eq(Mux(sequencer.zero, 0, self.weight.data)),
            array.load.eq(sequencer.load),
            array.load_first.eq(sequencer.load_first),
            accumulators.sums.eq(array.sums),
        ]

        m.d.comb += accumulators.write.eq(self._late(m, streamer.write))
        if self._config.in_flight == 1:
            m.d.comb += accumulators.write.bank.eq(sequencer.passes.p.instruction.bank)

        draining = Signal(range(exec_drain(self._config) + 1))
        finishing = Signal(exec_drain(self._config) - 1)
        with m.If(streamer.write.valid):
            m.d.sync += draining.eq(exec_drain(self._config) - 1)
        with m.Elif(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        m.d.sync += finishing.eq(Cat(streamer.finish, finishing))
        m.d.comb += self.done.eq(finishing[-1])

        stopped = Signal()
        stop = Signal()
        m.d.comb += [
            stop.eq(self.halt | stopped),
            sequencer.stop.eq(stop),
            streamer.stop.eq(stop),
            self.fault.valid.eq(streamer.outside & ~stop),
            self.fault.code.eq(ErrorCode.ADDRESS),
            self.fault.index.eq(streamer.index),
            self.stall.eq(~stop & (streamer.stall | (streamer.empty & (streamer.active | sequencer.active)))),
            self.busy.eq((~stop & (streamer.active | sequencer.active)) | streamer.pending | streamer.write.valid
                         | (draining != 0)),
        ]
        with m.If(self.fault.valid):
            m.d.sync += stopped.eq(1)

        return m

    def _late(self, m: Module, write: Any) -> Any:
        """``write``, which comes one cycle after the issue, as long before the sum as the accumulator needs."""
        cycles = EXEC_READ + array_delay(self._config.array) - 1 - accumulator_read(self._config.memory)
        if self._config.in_flight == 1:
            m.submodules.writes = writes = DelayLine(len(write.as_value()), cycles)
            m.d.comb += writes.i.eq(write)
            return writes.o
        for cycle in range(cycles):
            delayed = Signal(write.shape(), name=f"write_{cycle}", reset_less=True)
            m.d.sync += delayed.eq(write)
            write = delayed
        return write
