# SPDX-License-Identifier: Apache-2.0
"""The LOAD engine: main memory to the memories on chip."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import ReadChannel
from .bus_timing import memory_sizes
from .config import AcceleratorConfig
from .isa import Load
from .isa_layout import instruction_layout
from .load_writer import LoadWriter, load_memories
from .ports import FaultLayout
from .single_front import front_class

__all__ = ["LoadEngine"]


class LoadEngine(wiring.Component):
    """Execute ``LOAD`` instructions: see :class:`tilewright_hdl.isa.Load` for what they do.

    The front asks for the bursts of an instruction, and goes on with the next instruction while the writer still
    waits for the beats of older ones. Up to ``config.bus.outstanding`` bursts are under way.

    A fault stops the engine until reset. After a fault or with ``halt``, no burst is begun, the beats of those under
    way are taken and dropped, and then ``busy`` falls.

    Latency
    -------
    :func:`tilewright_hdl.bus_timing.load_cycles`; one beat a cycle when bus and memory keep up.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(config, Load)))``
    constant_base, arena_base : ``In(32)``
        Base addresses of the segments, bytes.
    channel : ``Out(ReadChannel.of(config))``
    activation, weight, parameter, table : ``Out(MemoryWrite(...))``
        See :func:`tilewright_hdl.load_writer.load_memories`. ``activation`` has one mask bit for each of
        ``config.activation_parts``, the others one. All are set, except of windows.
    done, stall, busy, fault : ``Out``
        See the architecture. ``stall``: an instruction is under way and in this cycle no beat was taken and no window
        packed.
    halt : ``In(1)``
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(config, Load))),
            "constant_base": In(32),
            "arena_base": In(32),
            "channel": Out(ReadChannel.of(config)),
            **{memory.name.lower(): Out(port) for memory, port in load_memories(config).items()},
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
        sizes = memory_sizes(self.config)
        m.submodules.front = front = front_class(self.config)(
            self.config, Load, [self.config.beats(word_bytes) for _, word_bytes in sizes.values()],
            windows=self.config.bus.windows,
        )
        m.submodules.writer = writer = LoadWriter(self.config)
        wiring.connect(m, wiring.flipped(self.instruction), front.instruction)
        wiring.connect(m, front.words, writer.i)
        wiring.connect(m, wiring.flipped(self.channel.beat), writer.beat)
        for name in (memory.name.lower() for memory in sizes):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(writer, name))

        stopped = Signal()
        stop = Signal()
        beat, burst = self.channel.beat, self.channel.burst
        m.d.comb += [
            stop.eq(stopped | self.halt | self.fault.valid),
            front.stop.eq(stop),
            writer.stop.eq(stop),
            front.constant_base.eq(self.constant_base),
            front.arena_base.eq(self.arena_base),
            front.burst_ends.eq(beat.valid & beat.ready & beat.p.last),
            front.done.eq(writer.done),
            burst.valid.eq(front.burst.valid),
            burst.p.address.eq(front.burst.p.address),
            burst.p.length.eq(front.burst.p.length),
            front.burst.ready.eq(burst.ready),
            self.done.eq(writer.done),
            self.fault.eq(writer.fault),
            self.busy.eq(front.busy),
            self.stall.eq(front.under_way & ~writer.moved),
        ]
        with m.If(stop):
            m.d.sync += stopped.eq(1)
        return m
