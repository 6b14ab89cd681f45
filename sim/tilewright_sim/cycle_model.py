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
from tilewright_hdl.isa import ENGINES, Engine, Instruction, Segment
from tilewright_hdl.registers import counter_name
from tilewright_hdl.timing import DEADLOCK_CYCLES

from .cycle_bus import MemoryTiming
from .cycle_engines import Engines
from .cycle_fetch import Fetching
from .cycle_fetch_direct import DirectFetching
from .cycle_runs import NEVER, Level, set_bits
from .machine import ProfileRecord

__all__ = ["Deadlock", "MemoryTiming", "Timing", "estimate", "simulate"]

# Events of one cycle in the order in which they take effect: an engine's done (twice its number), its retirement (one
# more), for one engine after the other, since only one retires in a cycle; then starts.
_START = 2 * len(ENGINES)

_EMPTY_CYCLES = 1
"""Cycles of a program without instructions."""


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
        self.scheduled: int | None = None
        """Cycle in which the next one starts, as far as is known now."""
        self.issue = 0
        self.under_way: deque[tuple[int, int, int, int]] = deque()
        """Index, issue, start and stall count at the start of instructions that have not retired."""
        self.finished = 0
        """How many of them the engine has finished."""
        self.slot = 0
        """Cycle from which fewer than ``in_flight`` are under way, if they are."""
        self.stuck = False
        """The oldest cannot retire because a semaphore is full."""
        self.wait = 0
        self.busy = Level()
        """An instruction has not retired."""
        self.working = Level()
        """The engine has not finished an instruction."""


class _Run:
    """One walk through a program."""

    def __init__(self, config: AcceleratorConfig, instructions: list[Instruction], program_address: int,
                 bases: dict[Segment, int], memory: MemoryTiming):
        self._instructions = instructions
        self._states = [_EngineState() for _ in ENGINES]
        for index, ins in enumerate(instructions):
            self._states[ins.ENGINE].waiting.append(index)
        self._engines = Engines(config, memory, bases, instructions)
        self._bus, self._loading = self._engines.bus, self._engines.load
        fetching = DirectFetching if config.queue_instructions == 1 else Fetching
        self._fetching = fetching(config, instructions, program_address, self._bus)
        self._given: list[list[deque[int]]] = [[deque() for _ in ENGINES] for _ in ENGINES]
        self._in_flight = config.in_flight
        self._most_tokens = (1 << config.semaphore_bits) - 1
        self._events: list[tuple[int, int, int]] = []
        self._stuck = 0
        self._last_retired = -1
        self._profile: list[ProfileRecord] = []

    def run(self) -> Timing:
        """Follow all events. Of one cycle, the bus comes first: what else happens in it shows there later."""
        events, bus, fetching, loading = self._events, self._bus, self._fetching, self._loading
        while True:
            cycle = events[0][0] if events else NEVER - 1
            if bus.settles_at < NEVER or loading.address_at <= cycle:
                bus.post_waits = self._post_waits()
                bus.post_from = max(bus.post_waits, self._post_from(cycle))
            if bus.may_settle():
                bus.settle()
                loading.follow()
                self._follow(Engine.LOAD)
                self._consider_heads()
            elif fetching.address_at <= min(cycle, loading.address_at):
                fetching.ask()
                self._consider_heads()
            elif loading.address_at <= cycle:
                loading.advance(min(cycle, fetching.address_at - 1))
                self._follow(Engine.LOAD)
            elif events:
                self._happen(*heapq.heappop(events))
            else:
                return self._result()

    def _post_from(self, cycle: int) -> int:
        """No ``POST`` that has not started starts before this cycle, if the next event happens in ``cycle``.

        Where its start is not known, it waits for an event, for beats of ``FETCH``, or for a ``LOAD`` to start, which
        may happen once its last address is out: that makes room for the beats of others, and for a token.
        """
        start = self._states[Engine.POST].scheduled
        if start is None:
            start = min(cycle + 1, self._fetching.address_at)
            if self._fetching.waits_for == Engine.LOAD or self._stuck:
                start = min(start, self._loading.ready_after)
        return start

    def _post_waits(self) -> int:
        """No ``POST`` that has not started starts before this cycle: it waits for what is under way elsewhere.

        Nobody but ``POST`` itself can make that end earlier.
        """
        state = self._states[Engine.POST]
        if not state.waiting:
            return NEVER
        latest = 0
        for source in set_bits(self._instructions[state.waiting[0]].wait):
            if source != Engine.LOAD and not self._given[source][Engine.POST] and not self._states[source].finished:
                latest = max(latest, self._engines.next_done(source) or 0)
        return latest

    def _happen(self, cycle: int, order: int, engine: int) -> None:
        state = self._states[engine]
        if order >= _START:
            if state.scheduled == cycle:
                self._start(cycle, engine)
        elif order & 1:
            self._retire(cycle, engine)
        elif self._engines.next_done(engine) == cycle:
            self._engines.finish(engine)
            state.finished += 1
            state.working.down(cycle)
            if state.finished == 1:
                self._retire(cycle, engine)

    def _consider_heads(self) -> None:
        """Take over what has been decoded."""
        decoded = self._fetching.decoded
        while decoded:
            self._consider(decoded.pop())

    def _consider(self, engine: int) -> None:
        """Find when an engine's next instruction starts, if that is known."""
        state = self._states[engine]
        before, state.scheduled = state.scheduled, None
        ready = self._engines.ready_at(engine)
        if not state.waiting or ready is None or len(state.under_way) == self._in_flight:
            return
        decoded = self._fetching.decoded_at(engine)
        if decoded is None:
            return
        state.issue = start = max(decoded, ready, state.slot)
        for source in set_bits(self._instructions[state.waiting[0]].wait):
            given = self._given[source][engine]
            if not given:
                return
            start = max(start, given[0] + 1)
        state.scheduled = start
        if start != before:
            heapq.heappush(self._events, (start, _START + engine, engine))

    def _follow(self, engine: int) -> None:
        """Take over what is new at an engine."""
        for done in self._engines.done(engine):
            heapq.heappush(self._events, (done, 2 * engine, engine))
        self._consider(engine)

    def _start(self, cycle: int, engine: int) -> None:
        state = self._states[engine]
        index = state.waiting.popleft()
        ins = self._instructions[index]
        for source in set_bits(ins.wait):
            self._given[source][engine].popleft()
            if self._states[source].stuck:
                self._states[source].stuck = False
                self._stuck -= 1
                self._retire_at(cycle + 1, source)
        state.scheduled = None
        state.wait += cycle - state.issue
        stalled = self._stalled_before(engine, cycle)
        state.busy.up(cycle)
        state.working.up(cycle)
        state.under_way.append((index, state.issue, cycle, stalled))
        if self._in_flight > 1:
            self._fetching.taken(engine, cycle)
        for changed in self._engines.start(ins, cycle):
            self._follow(changed)
        self._consider_heads()

    def _stalled_before(self, engine: int, cycle: int) -> int:
        """Cycles before ``cycle`` in which an engine was under way and could not go on."""
        working = self._states[engine].working
        if engine == Engine.LOAD:
            return working.before(cycle) - self._bus.moved_before(cycle)
        if engine == Engine.STORE:
            return working.before(cycle) - self._engines.store.sent_before(cycle)
        return self._engines.exec.stalled_before(cycle) if engine == Engine.EXEC else 0

    def _retire_at(self, cycle: int, engine: int) -> None:
        heapq.heappush(self._events, (cycle, 2 * engine + 1, engine))

    def _retire(self, cycle: int, engine: int) -> None:
        """Retire the oldest instruction of an engine, or find out what it waits for."""
        state = self._states[engine]
        if state.stuck:
            return
        if cycle == self._last_retired:
            self._retire_at(cycle + 1, engine)
            return
        index, issue, start, stalled = state.under_way[0]
        targets = set_bits(self._instructions[index].signal)
        for target in targets:
            if len(self._given[engine][target]) == self._most_tokens:
                state.stuck = True
                self._stuck += 1
                return
        self._last_retired = cycle
        stall = self._stalled_before(engine, cycle) - stalled
        full = len(state.under_way) == self._in_flight
        state.under_way.popleft()
        state.busy.down(cycle)
        state.finished -= 1
        if state.finished:
            self._retire_at(cycle + 1, engine)
        self._profile.append(ProfileRecord(index, Engine(engine), issue, start, cycle, stall))
        for target in targets:
            self._given[engine][target].append(cycle)
            self._consider(target)
        if full:
            state.slot = cycle + 1
            if self._in_flight == 1:
                self._fetching.taken(engine, cycle)
                self._consider_heads()
            self._consider(engine)

    def _result(self) -> Timing:
        waiting = {}
        for engine in ENGINES:
            state = self._states[engine]
            if state.stuck:
                waiting[engine] = state.under_way[0][0]
            elif state.waiting and self._fetching.decoded_at(engine) is not None:
                waiting[engine] = state.waiting[0]
        if waiting:
            raise Deadlock(min(waiting.values()), waiting)
        assert len(self._profile) == len(self._instructions), "a program ends, or waits for a semaphore"
        cycles = self._last_retired + 1 if self._profile else _EMPTY_CYCLES
        counters = {}
        for engine in ENGINES:
            state = self._states[engine]
            counters[counter_name(engine, "BUSY")] = state.busy.before(cycles)
            counters[counter_name(engine, "WAIT")] = state.wait
            counters[counter_name(engine, "STALL")] = self._stalled_before(engine, cycles)
        return Timing(cycles=cycles, counters=counters, profile=self._profile)
