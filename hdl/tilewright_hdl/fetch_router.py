# SPDX-License-Identifier: Apache-2.0
"""The half of the fetch engine that deals out instructions."""

from amaranth import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .isa import ENGINES, INSTRUCTIONS, Instruction
from .isa_layout import encoded_layout
from .ports import FaultLayout
from .registers import ErrorCode

__all__ = ["FetchRouter", "FetchedLayout", "kind_of"]


def kind_of(m: Module, opcode: Value) -> tuple[Signal, Signal, Signal]:
    """What an opcode says: the engine, the bytes of the instruction, and whether there is such an opcode at all."""
    engine = Signal(range(len(ENGINES)))
    size = Signal(range(max(cls.BYTES for cls in INSTRUCTIONS) + 1))
    known = Signal()
    with m.Switch(opcode):
        for cls in INSTRUCTIONS:
            with m.Case(cls.OPCODE):
                m.d.comb += [engine.eq(cls.ENGINE), size.eq(cls.BYTES), known.eq(1)]
    return engine, size, known


class FetchedLayout(data.StructLayout):
    """A beat of the program: ``data``, and whether it came with an ``error``."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": config.bus.data_bits, "error": 1})


class FetchRouter(wiring.Component):
    """Check the head of each instruction and pass its beats to the queue of its engine.

    Latency
    -------
    None. The word after which a program or an instruction ends is known one cycle later.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : ``In(1)``
        Pulse: begin a program of ``program_bytes``.
    program_bytes : ``In(32)``
    i : ``In(stream.Signature(FetchedLayout(config)))``
        Beats of the program.
    queues : ``Out(stream.Signature(config.bus.data_bits)).array(len(ENGINES))``
        Beats of the instructions of each engine.
    stop : ``In(1)``
        Level: pass nothing more.
    finished : ``Out(1)``
        Level: the program has been passed on.
    fault : ``Out(FaultLayout())``
        ``FETCH``, ``OPCODE`` or ``INDEX``. ``stop`` must then be high from the same cycle on.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "start": In(1),
            "program_bytes": In(32),
            "i": In(stream.Signature(FetchedLayout(config))),
            "queues": Out(stream.Signature(config.bus.data_bits)).array(len(ENGINES)),
            "stop": In(1),
            "finished": Out(1),
            "fault": Out(FaultLayout()),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        head = data.View(encoded_layout(Instruction), self.i.p.data[:32])
        sizes = [cls.BYTES for cls in INSTRUCTIONS]

        active = Signal()
        bytes_left = Signal(32)
        index = Signal.like(head.index)
        body = Signal(range(max(sizes) // self.config.bus.data_bytes))
        body_engine = Signal(range(len(ENGINES)))

        engine, size, known = kind_of(m, head.opcode)
        # Compared with all sizes before the opcode is there.
        short = Array(bytes_left < cls.BYTES for cls in INSTRUCTIONS)[engine]
        is_head = Signal()
        code = Signal(ErrorCode)
        target = Signal.like(engine)
        passed = Signal()
        ends = Signal()
        m.d.comb += [is_head.eq(~body.any()), target.eq(Mux(is_head, engine, body_engine))]
        with m.If(self.i.p.error):
            m.d.comb += code.eq(ErrorCode.FETCH)
        with m.Elif(is_head & (~known | short)):
            m.d.comb += code.eq(ErrorCode.OPCODE)
        with m.Elif(is_head & (head.index != index)):
            m.d.comb += code.eq(ErrorCode.INDEX)

        offered = self.i.valid & (code == ErrorCode.NONE) & ~self.stop
        m.d.comb += [
            self.finished.eq(active & is_head & (bytes_left == 0)),
            self.i.ready.eq(passed),
            passed.eq(offered & Array(queue.ready for queue in self.queues)[target]),
        ]
        for which, queue in enumerate(self.queues):
            m.d.comb += [queue.valid.eq(offered & (target == which)), queue.payload.eq(self.i.p.data)]
        m.d.sync += [
            self.fault.valid.eq(self.i.valid & (code != ErrorCode.NONE) & ~self.stop),
            self.fault.code.eq(code),
            self.fault.index.eq(index),
        ]

        beats = size // self.config.bus.data_bytes
        m.d.comb += ends.eq(Mux(is_head, beats == 1, body == 1))
        with m.If(self.start):
            m.d.sync += [active.eq(1), bytes_left.eq(self.program_bytes)]
        with m.If(passed):
            m.d.sync += [body.eq(Mux(is_head, beats, body) - 1), index.eq(index + ends)]
            with m.If(is_head):
                m.d.sync += [body_engine.eq(engine), bytes_left.eq(bytes_left - size)]
        return m
