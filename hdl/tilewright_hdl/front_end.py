# SPDX-License-Identifier: Apache-2.0
"""Between the decoder and an engine: tokens, bookkeeping of what is under way, and counters."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .isa import ENGINES, Instruction
from .isa_layout import instruction_layout
from .ports import INDEX_BITS
from .profile import RecordLayout
from .registers import COUNTER_BITS

__all__ = ["CountersLayout", "FrontEnd"]


class CountersLayout(data.StructLayout):
    """Cycles that one engine was busy, waited for a token, and was stalled; see :mod:`~.registers`."""

    def __init__(self) -> None:
        super().__init__({"busy": COUNTER_BITS, "wait": COUNTER_BITS, "stall": COUNTER_BITS})


class FrontEnd(wiring.Component):
    """Give instructions to one engine when their tokens are there, and give tokens when they are done.

    An instruction *stands at the head* while it is offered on ``i``. It *can be issued* once the engine is ready for it
    and fewer than ``config.in_flight`` older ones are under way. It *starts* in the cycle in which all its tokens are
    there as well: they are taken, and the engine gets it. It *retires* when the engine has finished it, each semaphore
    that it signals has room, and its record is taken; tokens are given in that cycle.

    With ``config.in_flight`` at 1, the instruction under way is the one on ``i``, which must stay there until
    ``retired``.

    Latency
    -------
    None: an instruction starts in the first cycle in which all conditions hold, and retires in the cycle of
    ``done`` unless something is missing then.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`
    cls : type of :class:`~.isa.Instruction`
        The engine's instruction.

    Members
    -------
    i : ``In(stream.Signature(instruction_layout(config, cls)))``
        Checked instructions.
    o : ``Out(stream.Signature(instruction_layout(config, cls)))``
        To the engine, whose ``ready`` must not depend on ``valid``.
    done, stall : ``In(1)``
        From the engine: one pulse for each finished instruction, in order; and a level while it cannot go on.
    now : ``In(COUNTER_BITS)``
        Cycles since the start of the program.
    halt : ``In(1)``
        The machine stops: nothing starts any more and the counters stand still.
    available, room : ``In(len(ENGINES))``
        From the semaphores: engines of which a token is there, engines to which one can be given.
    take, give : ``Out(len(ENGINES))``
        To the semaphores: engines of which a token is taken, to which one is given.
    retired : ``Out(1)``
        An instruction retires in this cycle.
    record : ``Out(stream.Signature(RecordLayout()))``
        Record of the instruction that retires; without a profile, zeros. ``ready`` may depend on ``valid``.
    idle : ``Out(1)``
        No instruction is under way.
    working : ``Out(1)``
        An instruction that is under way has not been finished by the engine.
    waiting : ``Out(1)``
        The instruction at the head lacks a token, whether or not the engine is ready for it, or one that is finished
        cannot retire because a semaphore is full.
    waiting_index : ``Out(INDEX_BITS)``
        Its index; that of the oldest one if there are two.
    counters : ``Out(CountersLayout())``
        Zeros without ``config.counters``.
    """

    i: stream.Interface
    o: stream.Interface
    record: stream.Interface
    counters: data.View

    def __init__(self, config: AcceleratorConfig, cls: type[Instruction]):
        self._config = config
        self._cls = cls
        super().__init__({
            "i": In(stream.Signature(instruction_layout(config, cls))),
            "o": Out(stream.Signature(instruction_layout(config, cls))),
            "done": In(1),
            "stall": In(1),
            "now": In(COUNTER_BITS),
            "halt": In(1),
            "available": In(len(ENGINES)),
            "room": In(len(ENGINES)),
            "take": Out(len(ENGINES)),
            "give": Out(len(ENGINES)),
            "retired": Out(1),
            "record": Out(stream.Signature(RecordLayout())),
            "idle": Out(1),
            "working": Out(1),
            "waiting": Out(1),
            "waiting_index": Out(INDEX_BITS),
            "counters": Out(CountersLayout()),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def cls(self) -> type[Instruction]:
        return self._cls

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.in_flight = in_flight = InFlight(self.config)

        head = self.i.payload
        # No legal instruction names its own engine.
        others = [engine for engine in ENGINES if engine != self.cls.ENGINE]
        tokens = ~Cat(head.wait[engine] & ~self.available[engine] for engine in others).any()
        admitted = ~in_flight.full & ~self.halt
        can_issue = self.i.valid & self.o.ready & admitted
        start = can_issue & tokens
        m.d.comb += [
            self.o.payload.eq(head),
            self.o.valid.eq(self.i.valid & admitted & tokens),
            self.i.ready.eq(self.o.ready & admitted & tokens),
            self.take.eq(Mux(start, head.wait, 0)),
        ]

        m.d.comb += [in_flight.push.eq(start), in_flight.done.eq(self.done)]
        oldest = head
        if self.config.in_flight > 1:
            oldest = in_flight.oldest
            m.d.comb += [in_flight.entry.index.eq(head.index), in_flight.entry.signal.eq(head.signal)]
        if self.config.profile_records:
            self._record(m, in_flight, oldest, start, can_issue)

        room = ~Cat(oldest.signal[engine] & ~self.room[engine] for engine in others).any()
        retire = self.record.valid & self.record.ready
        m.d.comb += [
            self.record.valid.eq(in_flight.finished & room),
            self.retired.eq(retire),
            in_flight.pop.eq(retire),
            self.give.eq(Mux(retire, oldest.signal, 0)),
            self.idle.eq(in_flight.empty),
            self.working.eq(in_flight.working),
        ]
        stuck = in_flight.finished & ~room
        m.d.comb += [
            self.waiting.eq(stuck | (self.i.valid & admitted & ~tokens)),
            self.waiting_index.eq(Mux(stuck, oldest.index, head.index)),
        ]
        if self.config.counters:
            self._count(m, busy=~in_flight.empty, wait=can_issue & ~tokens)
        return m

    def _record(self, m: Module, in_flight: "InFlight", oldest: data.View, start: Value, can_issue: Value) -> None:
        """Note the times of the instructions, and give those of the oldest."""
        # The cycle in which the instruction could be issued for the first time.
        seen = Signal()
        seen_at = Signal(COUNTER_BITS)
        with m.If(start):
            m.d.sync += seen.eq(0)
        with m.Elif(can_issue & ~seen):
            m.d.sync += [seen.eq(1), seen_at.eq(self.now)]
        entry, times, record = in_flight.entry, in_flight.oldest, self.record.payload
        m.d.comb += [
            entry.issue.eq(Mux(seen, seen_at, self.now)),
            entry.start.eq(self.now),
            entry.stall.eq(self.counters.stall),
            record.index.eq(oldest.index),
            record.engine.eq(self.cls.ENGINE),
            record.issue.eq(times.issue),
            record.start.eq(times.start),
            record.end.eq(self.now),
            record.stall.eq(self.counters.stall - times.stall),
        ]

    def _count(self, m: Module, *, busy: Value, wait: Value) -> None:
        with m.If(~self.halt):
            for name, condition in (("busy", busy), ("wait", wait), ("stall", busy & self.stall)):
                m.d.sync += self.counters[name].eq(self.counters[name] + condition)


class _EntryLayout(data.StructLayout):
    def __init__(self, config: AcceleratorConfig) -> None:
        fields = {"index": INDEX_BITS, "signal": len(ENGINES)} if config.in_flight > 1 else {}
        times = ("issue", "start", "stall") if config.profile_records else ()
        super().__init__({**fields, **dict.fromkeys(times, COUNTER_BITS)})


class InFlight(wiring.Component):
    """The instructions that an engine has been given and that have not retired, oldest first.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`

    Members
    -------
    push : ``In(1)``
        ``entry`` is given to the engine. Not while ``full``.
    entry : ``In(...)``
        ``index`` and ``signal`` of the instruction, if there can be several; with a profile, cycles of ``issue`` and
        ``start``, and the engine's ``stall`` counter at the start.
    done : ``In(1)``
        The engine finishes the oldest instruction that it has not finished.
    pop : ``In(1)``
        The oldest instruction retires. Only while ``finished``.
    oldest : ``Out(...)``
        Entry of the oldest instruction; from the cycle after ``push``.
    finished : ``Out(1)``
        The engine has finished the oldest instruction, in this cycle or before.
    working : ``Out(1)``
        The engine has not finished the youngest instruction.
    empty, full : ``Out(1)``
    """

    entry: data.View
    oldest: data.View

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "push": In(1),
            "entry": In(_EntryLayout(config)),
            "done": In(1),
            "pop": In(1),
            "oldest": Out(_EntryLayout(config)),
            "finished": Out(1),
            "working": Out(1),
            "empty": Out(1),
            "full": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.config.in_flight
        count = Signal(range(depth + 1))
        finished = Signal(range(depth + 1))
        if depth > 1:
            self._keep(m, depth)
        else:
            with m.If(self.push):
                m.d.sync += self.oldest.eq(self.entry)
        m.d.comb += [
            self.finished.eq((finished != 0) | self.done),
            self.working.eq(count != finished),
            self.empty.eq(count == 0),
            self.full.eq(count == depth),
        ]
        m.d.sync += count.eq(count + self.push - self.pop)
        m.d.sync += finished.eq(finished + self.done - self.pop)
        return m

    def _keep(self, m: Module, depth: int) -> None:
        """Add the memory of entries."""
        m.submodules.memory = memory = Memory(shape=_EntryLayout(self.config), depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        head = Signal(range(depth))
        tail = Signal(range(depth))
        m.d.comb += [
            write.addr.eq(tail),
            write.data.eq(self.entry),
            write.en.eq(self.push),
            read.addr.eq(head),
            self.oldest.eq(read.data),
        ]
        with m.If(self.push):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self.pop):
            m.d.sync += head.eq(head + 1)
