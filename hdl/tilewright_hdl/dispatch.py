# SPDX-License-Identifier: Apache-2.0
"""Instruction queues, decoders and front ends of the four engines, and the semaphores between them."""

from collections.abc import Sequence
from itertools import chain

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .decoder import Decoder
from .front_end import CountersLayout, FrontEnd
from .isa import ENGINES, INSTRUCTIONS, Instruction
from .isa_layout import instruction_layout
from .ports import FaultLayout, index_bits
from .profile import RecordLayout
from .registers import COUNTER_BITS, ErrorCode
from .semaphores import Semaphores
from .stream_fifo import StreamFifo
from .timing import DEADLOCK_CYCLES

__all__ = ["Dispatch", "EngineControl", "first_fault"]


class EngineControl(wiring.Signature):
    """What every engine has to control it, seen from the one who controls.

    Parameters
    ----------
    config : AcceleratorConfig
    cls : type of :class:`~.isa.Instruction`
        The engine's instruction.

    Members
    -------
    instruction : ``Out(stream.Signature(instruction_layout(config, cls)))``
        ``ready`` must not depend on ``valid``. The payload is there in the cycle of the transfer only.
    done : ``In(1)``
        One pulse for each finished instruction, in order. What it wrote is seen by a read in the next cycle.
    stall : ``In(1)``
        Under way, and could not go on in this cycle.
    busy : ``In(1)``
        Something is under way inside, be it a burst whose instruction was dropped.
    fault : ``In(FaultLayout())``
        The engine stops, until reset.
    halt : ``Out(1)``
        Begin nothing, and come to an end as soon as the bus allows it.
    """

    def __init__(self, config: AcceleratorConfig, cls: type[Instruction]):
        self._config = config
        self._cls = cls
        super().__init__({
            "instruction": Out(stream.Signature(instruction_layout(config, cls))),
            "done": In(1),
            "stall": In(1),
            "busy": In(1),
            "fault": In(FaultLayout()),
            "halt": Out(1),
        })

    @property
    def cls(self) -> type[Instruction]:
        return self._cls

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (self._config, self.cls) == (other._config, other.cls)

    def __repr__(self) -> str:
        return f"EngineControl({self.cls.__name__})"


def first_fault(m: Module, faults: Sequence[data.View], target: data.View) -> None:
    """Drive ``target`` with the first of ``faults`` that is valid."""
    for position, fault in enumerate(faults):
        with m.If(fault.valid) if position == 0 else m.Elif(fault.valid):
            m.d.comb += target.eq(fault)


class Dispatch(wiring.Component):
    """Bring each engine's instructions from bus beats to the engine, in order, and order the engines by tokens.

    At most one instruction retires in a cycle; of several that could, that of the engine with the lowest number does.

    If instructions can neither start nor retire because of semaphores, no engine works, no more instructions can come,
    and all that for ``DEADLOCK_CYCLES``, it is reported as ``ErrorCode.DEADLOCK`` with the smallest of their indices.

    With ``config.queue_instructions`` at 1 there are no queues: beats go to the decoders.

    Latency
    -------
    From the first beat of an instruction to the engine: ``QUEUE_DELAY`` if there are queues, and
    :func:`~.timing.decode_cycles`.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`

    Members
    -------
    queues : ``In(stream.Signature(config.bus.data_bits)).array(len(ENGINES))``
        Encoded instructions of each engine, in the order of ``ENGINES``. Without queues, one is ready between
        instructions if its engine can take a whole one.
    load, exec, post, store : ``Out(EngineControl(...))``
    fetched : ``In(1)``
        No more beats will come.
    blocked : ``In(1)``
        No more beats will come before an engine has room for them.
    halt : ``In(1)``
    now : ``In(COUNTER_BITS)``
        Cycles since the start of the program.
    record : ``Out(stream.Signature(RecordLayout()))``
        Records of the instructions that retire.
    counters : ``Out(ArrayLayout(CountersLayout(), len(ENGINES)))``
    fault : ``Out(FaultLayout())``
        Of the engines, the decoders and a deadlock; of several, that of the engine with the lowest number.
    finished : ``Out(1)``
        All instructions were fetched and have retired.
    busy : ``Out(1)``
        An engine is busy.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "queues": In(stream.Signature(config.bus.data_bits)).array(len(ENGINES)),
            **{_name(cls): Out(EngineControl(config, cls)) for cls in INSTRUCTIONS},
            "fetched": In(1),
            "blocked": In(1),
            "halt": In(1),
            "now": In(COUNTER_BITS),
            "record": Out(stream.Signature(RecordLayout())),
            "counters": Out(data.ArrayLayout(CountersLayout(), len(ENGINES))),
            "fault": Out(FaultLayout()),
            "finished": Out(1),
            "busy": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.semaphores = semaphores = Semaphores(self.config)
        m.submodules.deadlock = deadlock = DeadlockDetector(index_bits(self.config))
        fronts, empty, faults = [], [], []
        for cls in INSTRUCTIONS:
            name = _name(cls)
            beats, engine = self.queues[cls.ENGINE], getattr(self, name)
            m.submodules[f"{name}_decoder"] = decoder = Decoder(self.config, cls)
            m.submodules[f"{name}_front"] = front = FrontEnd(self.config, cls)
            if self.config.queue_instructions > 1:
                depth = self.config.queue_instructions * cls.BYTES // self.config.bus.data_bytes
                m.submodules[f"{name}_queue"] = queue = StreamFifo(self.config.bus.data_bits, depth, block=True)
                wiring.connect(m, wiring.flipped(beats), queue.i)
                wiring.connect(m, queue.o, decoder.i)
                empty.append(queue.empty)
            else:
                wiring.connect(m, wiring.flipped(beats), decoder.i)
            wiring.connect(m, decoder.o, front.i)
            wiring.connect(m, front.o, wiring.flipped(engine.instruction))
            m.d.comb += [
                decoder.retired.eq(front.retired),
                front.done.eq(engine.done),
                front.stall.eq(engine.stall),
                front.now.eq(self.now),
                front.halt.eq(self.halt),
                engine.halt.eq(self.halt),
                front.available.eq(semaphores.available[cls.ENGINE]),
                front.room.eq(semaphores.room[cls.ENGINE]),
                semaphores.take[cls.ENGINE].eq(front.take),
                semaphores.give[cls.ENGINE].eq(front.give),
                self.counters[cls.ENGINE].eq(front.counters),
                deadlock.waiting[cls.ENGINE].eq(front.waiting),
            ]
            fronts.append(front)
            empty += [decoder.empty, front.idle]
            faults.append((engine.fault, decoder.fault))

        self._retire(m, fronts)
        engines_busy = [getattr(self, _name(cls)).busy for cls in INSTRUCTIONS]
        working = Cat(*engines_busy, *(front.working for front in fronts)).any()
        m.d.comb += [
            self.busy.eq(Cat(engines_busy).any()),
            self.finished.eq(self.fetched & Cat(empty).all() & ~self.busy),
            deadlock.still.eq((self.fetched | self.blocked) & ~working & ~self.halt),
        ]
        self._report(m, fronts, faults, deadlock)
        return m

    def _report(
        self, m: Module, fronts: Sequence[FrontEnd], faults: Sequence[tuple[data.View, data.View]],
        deadlock: "DeadlockDetector",
    ) -> None:
        """Report the first fault; those of an engine and of its decoder are in ``faults``."""
        indices = Array(front.waiting_index[: deadlock.index_bits] for front in fronts)
        first_fault(m, [*chain.from_iterable(faults), deadlock.fault], self.fault)
        looked_at: Value = deadlock.engine
        if self.config.in_flight == 1:
            # Whatever goes wrong at an engine is about the one instruction that it has, so its index is read where the
            # detector reads it.
            looked_at = Signal.like(deadlock.engine)
            m.d.comb += looked_at.eq(deadlock.engine)
            for engine, (working, decoding) in reversed(list(enumerate(faults))):
                with m.If(working.valid | decoding.valid):
                    m.d.comb += looked_at.eq(engine)
            m.d.comb += self.fault.index.eq(Mux(deadlock.fault.valid, deadlock.fault.index, indices[looked_at]))
        m.d.comb += deadlock.index.eq(indices[looked_at])

    def _retire(self, m: Module, fronts: Sequence[FrontEnd]) -> None:
        m.d.comb += self.record.valid.eq(Cat(front.record.valid for front in fronts).any())
        for rank, front in enumerate(fronts):
            earlier = Cat(other.record.valid for other in fronts[:rank]).any() if rank else 0
            m.d.comb += front.record.ready.eq(self.record.ready & ~earlier if rank else self.record.ready)
            with m.If(front.record.valid & front.record.ready):
                m.d.comb += self.record.payload.eq(front.record.payload)


class DeadlockDetector(wiring.Component):
    """Report a deadlock when the machine has stood still for ``DEADLOCK_CYCLES``.

    By then who waits has not changed for long, so the engines are looked at in turn, for two cycles each: in the first
    one the indices are compared.

    Parameters
    ----------
    index_bits : int

    Members
    -------
    waiting : ``In(len(ENGINES))``
        Engines that wait for a semaphore.
    engine : ``Out(range(len(ENGINES)))``
        Engine that is looked at.
    index : ``In(index_bits)``
        Index of the instruction that waits there, if one does.
    still : ``In(1)``
        Nothing else is under way.
    fault : ``Out(FaultLayout())``
    """

    fault: data.View

    def __init__(self, index_bits: int) -> None:
        self._index_bits = index_bits
        super().__init__({
            "waiting": In(len(ENGINES)),
            "engine": Out(range(len(ENGINES))),
            "index": In(index_bits),
            "still": In(1),
            "fault": Out(FaultLayout()),
        })

    @property
    def index_bits(self) -> int:
        return self._index_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles = Signal(range(DEADLOCK_CYCLES))
        oldest = Signal(self.index_bits)
        found, older = Signal(), Signal()
        m.d.sync += older.eq(self.index < oldest)
        with m.If(self.still & self.waiting.any()):
            m.d.sync += cycles.eq(cycles + 1)
            m.d.comb += self.fault.valid.eq(cycles == DEADLOCK_CYCLES - 1)
            with m.If(cycles[0] & self.waiting.bit_select(self.engine, 1) & (~found | older)):
                m.d.sync += [found.eq(1), oldest.eq(self.index)]
        with m.Else():
            m.d.sync += [cycles.eq(0), found.eq(0)]
        m.d.comb += [
            self.engine.eq(cycles[1:]),
            self.fault.code.eq(ErrorCode.DEADLOCK),
            self.fault.index.eq(oldest),
        ]
        return m


def _name(cls: type[Instruction]) -> str:
    return cls.ENGINE.name.lower()
