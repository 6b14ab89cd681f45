# SPDX-License-Identifier: Apache-2.0
"""Cycles of a program, without its data.

The model follows the machine from event to event: an instruction starts, an instruction retires, a burst's address goes
out. Between events, everything follows from closed forms and from the delays that the hardware is built with
(:mod:`tilewright_hdl.timing`, :mod:`tilewright_hdl.bus_timing`); no constant is fitted. Main memory is the one that
:class:`~.cycle_bus.MemoryTiming` describes.

Cycle 0 is the first cycle of the run, as in a profile.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.isa import ENGINES, Engine, Exec, Instruction, Load, Post, Segment, Store
from tilewright_hdl.registers import counter_name
from tilewright_hdl.timing import DEADLOCK_CYCLES, IN_FLIGHT, post_cycles

from .cycle_array import Computing
from .cycle_bus import NEVER, Fetching, Loading, MemoryTiming, ReadBus, Storing
from .machine import ProfileRecord

__all__ = ["Deadlock", "MemoryTiming", "Timing", "estimate", "simulate"]

# Events of one cycle in the order in which they take effect. Retirements in cycle t let others start in t + 1.
_DONE, _RETIRE, _START = range(3)

EMPTY_CYCLES = 1
"""Cycles of a program without instructions."""

_BITS = [tuple(int(e) for e in ENGINES if mask >> e & 1) for mask in range(1 << len(ENGINES))]


class Deadlock(DeviceError):
    """All engines wait for semaphores, and nothing is under way.

    Members
    -------
    index : int
        Of the oldest instruction that waits.
    """

    def __init__(self, index: int, waiting: dict[Engine, int]):
        self.index = index
        which = ", ".join(f"{e.name} at instruction {i}" for e, i in sorted(waiting.items(), key=lambda item: item[1]))
        super().__init__(f"for {DEADLOCK_CYCLES} cycles every engine has waited for a semaphore: {which}")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Cycles of a run.

    Members
    -------
    cycles : int
    counters : dict of str to int
        Busy, wait and stall registers of the engines.
    profile : list of ProfileRecord
        In order of completion.
    """

    cycles: int
    counters: dict[str, int]
    profile: list[ProfileRecord] = field(repr=False)


def estimate(
    config: AcceleratorConfig, instructions: Sequence[Instruction], *, memory: MemoryTiming | None = None
) -> list[ProfileRecord]:
    """Records of a program as :func:`simulate` gives them, with the program and both segments at address 0."""
    return simulate(config, instructions, memory=memory).profile


def simulate(
    config: AcceleratorConfig,
    instructions: Sequence[Instruction],
    *,
    program_address: int = 0,
    constant_base: int = 0,
    arena_base: int = 0,
    memory: MemoryTiming | None = None,
) -> Timing:
    """Cycles of a program.

    Parameters
    ----------
    config : AcceleratorConfig
    instructions : sequence of Instruction
        The place in the sequence is the index.
    program_address, constant_base, arena_base : int
        Byte addresses as in a :class:`~.machine.Job`; they decide where bursts end.
    memory : MemoryTiming, or None
        Default: 32 cycles, a beat a cycle.

    Raises
    ------
    Deadlock
        If the program does not come to an end.
    """
    bases = {Segment.CONSTANT: constant_base, Segment.ARENA: arena_base}
    return _Run(config, list(instructions), program_address, bases, memory or MemoryTiming()).run()


class _EngineState:
    """What the front end of one engine knows."""

    def __init__(self) -> None:
        self.waiting: deque[int] = deque()
        """Instructions that have not started."""
        self.scheduled = False
        """The next start stands in the list of events."""
        self.issue = 0
        self.ready: int | None = 0
        """Cycle from which the engine takes the next instruction, if that is known."""
        self.under_way: deque[tuple[int, int, int, int]] = deque()
        """Index, issue, start and stall count at the start of instructions that have not retired."""
        self.finished = 0
        """How many of them the engine has finished."""
        self.slot = 0
        """Cycle from which fewer than ``IN_FLIGHT`` are under way, if they are."""
        self.stuck = False
        """The oldest cannot retire because a semaphore is full."""
        self.wait = 0
        self.busy = _Level()
        """An instruction has not retired."""
        self.working = _Level()
        """The engine has not finished an instruction."""


class _Level:
    """A level that rises in the cycle after an event and falls in the cycle after another; its high cycles, counted."""

    def __init__(self) -> None:
        self._count = 0
        self._risen = 0
        self._fallen = -1
        self._high = 0

    def up(self, cycle: int) -> None:
        """One more reason to be high."""
        if not self._high:
            self._risen = cycle
        self._high += 1

    def down(self, cycle: int) -> None:
        """One reason less."""
        self._high -= 1
        if not self._high:
            self._count += cycle - self._risen
            self._fallen = cycle

    def before(self, cycle: int) -> int:
        """High cycles before ``cycle``, which is not before the last event."""
        if self._high:
            return self._count + max(0, cycle - 1 - self._risen)
        return self._count - (self._fallen == cycle)


class _Run:
    """One walk through a program."""

    def __init__(self, config: AcceleratorConfig, instructions: list[Instruction], program_address: int,
                 bases: dict[Segment, int], memory: MemoryTiming):
        self._config = config
        self._instructions = instructions
        self._engines = [_EngineState() for _ in ENGINES]
        for index, ins in enumerate(instructions):
            self._engines[ins.ENGINE].waiting.append(index)
        bus = ReadBus(memory)
        self._fetching = Fetching(config, instructions, program_address, bus, memory)
        self._loading = Loading(config, bus, memory, bases)
        self._storing = Storing(config, memory, bases)
        self._computing = Computing(config)
        self._given: list[list[deque[int]]] = [[deque() for _ in ENGINES] for _ in ENGINES]
        self._most_tokens = (1 << config.semaphore_bits) - 1
        self._events: list[tuple[int, int, int]] = []
        self._last_retired = -1
        self._profile: list[ProfileRecord] = []

    def run(self) -> Timing:
        """Follow all events. Of one cycle, addresses come first: what else happens in it shows on the bus later."""
        events, fetching, loading = self._events, self._fetching, self._loading
        while True:
            cycle = events[0][0] if events else NEVER - 1
            if fetching.address_at <= min(cycle, loading.address_at):
                fetching.ask()
                self._consider_all()
            elif loading.address_at <= cycle:
                loading.advance(min(cycle, fetching.address_at - 1))
                self._follow_load()
            elif events:
                self._happen(*heapq.heappop(events))
            else:
                return self._result()

    def _happen(self, cycle: int, kind: int, engine: int) -> None:
        if kind == _START:
            self._start(cycle, engine)
        elif kind == _DONE:
            self._engines[engine].finished += 1
            self._engines[engine].working.down(cycle)
            if self._engines[engine].finished == 1:
                self._retire(cycle, engine)
        else:
            self._retire(cycle, engine)

    def _consider_all(self) -> None:
        for engine in range(len(ENGINES)):
            self._consider(engine)

    def _consider(self, engine: int) -> None:
        """Schedule the next start of an engine if its time is known."""
        state = self._engines[engine]
        if state.scheduled or not state.waiting or state.ready is None or len(state.under_way) == IN_FLIGHT:
            return
        decoded = self._fetching.decoded_at(engine)
        if decoded is None:
            return
        issue = start = max(decoded, state.ready, state.slot)
        for source in _BITS[self._instructions[state.waiting[0]].wait]:
            given = self._given[source][engine]
            if not given:
                return
            start = max(start, given[0] + 1)
        state.issue = issue
        state.scheduled = True
        heapq.heappush(self._events, (start, _START, engine))

    def _start(self, cycle: int, engine: int) -> None:
        state = self._engines[engine]
        index = state.waiting.popleft()
        ins = self._instructions[index]
        for source in _BITS[ins.wait]:
            self._given[source][engine].popleft()
            if self._engines[source].stuck:
                self._engines[source].stuck = False
                heapq.heappush(self._events, (cycle + 1, _RETIRE, source))
        state.scheduled = False
        state.wait += cycle - state.issue
        stalled = self._stalled_before(engine, cycle)
        state.busy.up(cycle)
        state.working.up(cycle)
        state.under_way.append((index, state.issue, cycle, stalled))
        self._fetching.taken(engine, cycle)
        if isinstance(ins, Load):
            self._loading.start(ins, cycle)
            self._follow_load()
        else:
            state.ready, done = self._times(ins, cycle)
            heapq.heappush(self._events, (done, _DONE, engine))
        self._consider_all()

    def _times(self, ins: Instruction, cycle: int) -> tuple[int, int]:
        """Cycles in which the engine is ready for the next instruction, and of ``done``."""
        if isinstance(ins, Exec):
            return self._computing.start(ins, cycle)
        if isinstance(ins, Store):
            return self._storing.start(ins, cycle)
        assert isinstance(ins, Post)
        done = cycle + post_cycles(self._config, ins)
        return done, done

    def _follow_load(self) -> None:
        """Take over what is new at the ``LOAD`` engine."""
        loading = self._loading
        for done in loading.done:
            heapq.heappush(self._events, (done, _DONE, Engine.LOAD))
        loading.done.clear()
        self._engines[Engine.LOAD].ready = loading.ready_at
        self._consider(Engine.LOAD)

    def _stalled_before(self, engine: int, cycle: int) -> int:
        """Cycles before ``cycle`` in which an engine was under way and could not go on."""
        if engine == Engine.LOAD:
            return self._engines[engine].working.before(cycle) - self._loading.beats.before(cycle)
        if engine == Engine.STORE:
            return self._engines[engine].working.before(cycle) - self._storing.beats.before(cycle)
        return self._computing.stalls.before(cycle) if engine == Engine.EXEC else 0

    def _retire(self, cycle: int, engine: int) -> None:
        """Retire the oldest instruction of an engine, or find out what it waits for."""
        state = self._engines[engine]
        if state.stuck:
            return
        if cycle == self._last_retired:
            heapq.heappush(self._events, (cycle + 1, _RETIRE, engine))
            return
        index, issue, start, stalled = state.under_way[0]
        targets = _BITS[self._instructions[index].signal]
        if any(len(self._given[engine][target]) == self._most_tokens for target in targets):
            state.stuck = True
            return
        self._last_retired = cycle
        stall = self._stalled_before(engine, cycle) - stalled
        if len(state.under_way) == IN_FLIGHT:
            state.slot = cycle + 1
        state.under_way.popleft()
        state.busy.down(cycle)
        state.finished -= 1
        if state.finished:
            heapq.heappush(self._events, (cycle + 1, _RETIRE, engine))
        self._profile.append(ProfileRecord(index, Engine(engine), issue, start, cycle, stall))
        for target in targets:
            self._given[engine][target].append(cycle)
            self._consider(target)
        self._consider(engine)

    def _result(self) -> Timing:
        waiting = {}
        for engine in ENGINES:
            state = self._engines[engine]
            if state.stuck:
                waiting[engine] = state.under_way[0][0]
            elif state.waiting and self._fetching.decoded_at(engine) is not None:
                waiting[engine] = state.waiting[0]
        if waiting:
            raise Deadlock(min(waiting.values()), waiting)
        assert len(self._profile) == len(self._instructions), "a program ends, or waits for a semaphore"
        cycles = self._last_retired + 1 if self._profile else EMPTY_CYCLES
        counters = {}
        for engine in ENGINES:
            state = self._engines[engine]
            counters[counter_name(engine, "BUSY")] = state.busy.before(cycles)
            counters[counter_name(engine, "WAIT")] = state.wait
            counters[counter_name(engine, "STALL")] = self._stalled_before(engine, cycles)
        return Timing(cycles=cycles, counters=counters, profile=self._profile)
