# SPDX-License-Identifier: Apache-2.0
"""Times of the read channel, which ``FETCH`` and ``LOAD`` share, and of the ``LOAD`` engine.

The rules and delays are those of :mod:`tilewright_hdl.bus_timing`, for engines that are not alone: a burst's beats
come after those of all bursts asked for before it, whoever asked. When the last beat of a word for the activation
scratchpad has come, the channel stands still until ``POST`` leaves the word's bank to it. So the beats of such a burst
are certain only when they have passed; other bursts are certain as soon as all before them are.
"""

from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field

from tilewright_hdl.bus_timing import ADDRESS_DELAY, DONE_DELAY, REUSE_DELAY, memory_sizes, transfer_bursts
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory, Segment

from .cycle_ports import PortUses, bank_masks, first_free
from .cycle_runs import NEVER, CycleRuns

__all__ = ["Loading", "MemoryTiming", "ReadBus"]


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """Main memory as the simulators model it.

    Parameters
    ----------
    latency : int
        Cycles from a read burst's address to its first beat, and from a write burst's last beat to its response.
    beat_period : int
        Cycles from the offer of a beat to that of the next, of all reads; writes take a beat in each cycle.
    """

    latency: int = 32
    beat_period: int = 1

    def __post_init__(self) -> None:
        for name in ("latency", "beat_period"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Memory {name} must be at least 1 cycle, not {value!r}")


@dataclass
class _Plan:
    """A ``LOAD`` under way.

    Members
    -------
    mask : int
        Banks of the activation scratchpad that it writes, a bit for each.
    left : int
        Bursts whose beats have not all passed.
    done : int
        Cycle of ``done``, as far as is known now.
    """

    ins: Load
    start: int
    mask: int
    left: int
    word_beats: int
    done: int = NEVER


@dataclass
class _Writer:
    """How far the writer is.

    Members
    -------
    word, part : int
        Words of the instruction, and beats of the next word, that have come.
    bank, written : int
        Bank and cycle of the last write to the activation scratchpad; no beat is taken before it.
    since : int
        Cycle from which that write was wanted.
    final : _Plan, or None
        The instruction that ended with that write.
    """

    word: int = 0
    part: int = 0
    bank: int = 0
    written: int = -1
    since: int = -1
    final: _Plan | None = None


@dataclass
class _Burst:
    """A burst that has not passed for certain.

    Members
    -------
    earliest : int
        Cycle in which its first beat may be offered.
    plan : _Plan, or None
        Whose; None is ``FETCH``.
    """

    earliest: int
    beats: int
    plan: _Plan | None
    arrive: Callable[[int, int, int], None] | None = None


@dataclass
class _Passing:
    """How the beats at the head of the channel pass if nobody else comes in their way."""

    last: int
    free: int
    writer: _Writer
    moved: CycleRuns = field(default_factory=CycleRuns)


class ReadBus:
    """Beats of the read channel, in the order of the bursts.

    Parameters
    ----------
    config : AcceleratorConfig
    memory : MemoryTiming
    uses : PortUses
        Writes of ``POST``.
    """

    def __init__(self, config: AcceleratorConfig, memory: MemoryTiming, uses: PortUses):
        self._size = config.activation_bank_words
        self._memory = memory
        self._uses = uses
        self._queue: deque[_Burst] = deque()
        self._free = 0
        self._writer = _Writer()
        self._passing: _Passing | None = None
        self._moved = CycleRuns()
        self.last_address = -1
        """Cycle of the last address; there is one a cycle at most."""
        self.settles_at = NEVER
        """Cycle in which the burst at the head has passed, as far as is known now."""
        self.ended: deque[int] = deque()
        """Last beats of the bursts of ``LOAD`` that have passed; the reader removes them."""

    def request(self, cycle: int, beats: int, to: "_Plan | Callable[[int, int, int], None]") -> None:
        """Ask for a burst; ``to`` is who gets the beats: a ``LOAD``, or what takes first cycle, beats and period."""
        self.last_address = cycle
        earliest = cycle + self._memory.latency
        if isinstance(to, _Plan) and not (to.mask or self._queue) and self._writer.written <= cycle:
            self._certain(to, max(earliest, self._free), beats)
            return
        burst = _Burst(earliest, beats, to) if isinstance(to, _Plan) else _Burst(earliest, beats, None, to)
        self._queue.append(burst)
        if self._passing is None:
            self._pass(cycle)

    def _certain(self, plan: _Plan, first: int, beats: int) -> None:
        """Let a burst pass that nobody can come in the way of."""
        period = self._memory.beat_period
        last = first + (beats - 1) * period
        self._free = last + period
        self._moved.add(first, 1, period=period, count=beats)
        plan.left -= 1
        if not plan.left:
            plan.done = last + DONE_DELAY
        self.ended.append(last)

    def settle(self) -> None:
        """The burst at the head has passed, in cycle ``settles_at``."""
        cycle = self.settles_at
        self._end()
        self._pass(cycle)

    def disturb(self, mask: int, cycle: int) -> bool:
        """Take notice of new writes to some banks after a cycle; gives whether times of ``LOAD`` may have changed."""
        writer = self._writer
        open_end = writer.written > cycle and writer.final is not None
        if writer.written > cycle and mask >> writer.bank & 1:
            self._write(writer)
            if writer.final is not None:
                writer.final.done = writer.written
        if self._passing is not None:
            self._predict()
        return open_end

    def moved_before(self, cycle: int) -> int:
        """Beats of ``LOAD`` before a cycle."""
        return self._moved.before(cycle) + (self._passing.moved.before(cycle) if self._passing else 0)

    def _write(self, writer: _Writer) -> None:
        """Find the cycle of the write that is wanted since ``writer.since``."""
        uses = self._uses.overlapping(1 << writer.bank, writer.since)
        writer.written = first_free(uses, writer.bank, writer.since)

    def _pass(self, now: int) -> None:
        """Let bursts pass that are certain, and foresee the next."""
        while self._queue:
            burst = self._queue[0]
            if burst.plan is None:
                first = max(burst.earliest, self._free)
                self._queue.popleft()
                self._free = first + burst.beats * self._memory.beat_period
                assert burst.arrive is not None
                burst.arrive(first, burst.beats, self._memory.beat_period)
                continue
            self._predict()
            if burst.plan.mask or self._writer.written > now:
                return
            self._end()

    def _end(self) -> None:
        """Make what was foreseen the past."""
        passing, burst = self._passing, self._queue.popleft()
        assert passing is not None and burst.plan is not None
        self._passing = None
        self.settles_at = NEVER
        self._free, self._writer = passing.free, passing.writer
        self._moved.extend(passing.moved)
        plan = burst.plan
        plan.left -= 1
        if not plan.left:
            self._writer.word = self._writer.part = 0
            plan.done = passing.last + DONE_DELAY
            if plan.mask:
                plan.done = self._writer.written
                self._writer.final = plan
        self.ended.append(passing.last)

    def _predict(self) -> None:
        """Foresee how the burst at the head passes."""
        burst = self._queue[0]
        plan = burst.plan
        assert plan is not None
        period = self._memory.beat_period
        first = max(burst.earliest, self._free)
        passing = _Passing(0, 0, copy(self._writer))
        writer = passing.writer
        uses = self._uses.overlapping(plan.mask, first) if plan.mask else []
        if uses or writer.written > max(burst.earliest, self._free):
            self._beat_by_beat(burst, passing)
        else:
            passing.last = first + (burst.beats - 1) * period
            passing.free = passing.last + period
            passing.moved.add(first, 1, period=period, count=burst.beats)
            parts = writer.part + burst.beats
            writer.word += parts // plan.word_beats
            writer.part = parts % plan.word_beats
            if plan.mask and parts >= plan.word_beats:
                writer.since = writer.written = passing.last - writer.part * period + DONE_DELAY
                writer.bank = self._bank(plan.ins, writer.word - 1)
                writer.final = None
        self._passing = passing
        self.settles_at = passing.last

    def _beat_by_beat(self, burst: _Burst, passing: _Passing) -> None:
        plan, period, writer = burst.plan, self._memory.beat_period, passing.writer
        assert plan is not None
        free = self._free
        for _ in range(burst.beats):
            offered = max(burst.earliest, free)
            taken = max(offered, writer.written)
            free = max(taken + 1, offered + period)
            passing.moved.add(taken, 1)
            passing.last = taken
            writer.part += 1
            if writer.part == plan.word_beats:
                writer.part = 0
                if plan.mask:
                    writer.bank = self._bank(plan.ins, writer.word)
                    writer.since = taken + DONE_DELAY
                    writer.final = None
                    self._write(writer)
                writer.word += 1
        passing.free = free

    def _bank(self, ins: Load, word: int) -> int:
        row, column = divmod(word, ins.words)
        return (ins.address + row * ins.stride + column) // self._size


class Loading:
    """The ``LOAD`` engine: which bursts it asks for, and when.

    Parameters
    ----------
    config : AcceleratorConfig
    bus : ReadBus
    bases : dict of Segment to int
    """

    def __init__(self, config: AcceleratorConfig, bus: ReadBus, bases: dict[Segment, int]):
        self._config = config
        self._bus = bus
        self._bases = bases
        self._word_beats = {memory: config.beats(size) for memory, (_, size) in memory_sizes(config).items()}
        self._outstanding = config.bus.outstanding
        self._ends: deque[int] = deque([-NEVER] * self._outstanding, self._outstanding)
        self._under_way = 0
        self._accepted = -1
        self._plans: deque[_Plan] = deque()
        self._plan: _Plan | None = None
        self._lengths: list[int] = []
        self._at = 0
        self._earliest = 0
        self._next: tuple[_Plan, list[int], int] | None = None
        self.address_at = NEVER
        """Cycle in which the next burst's address goes out if ``FETCH`` leaves the bus to it."""
        self.ready_at: int | None = 0
        """Cycle from which the next instruction can be taken, if that is known."""

    @property
    def done(self) -> list[int]:
        """Cycles of ``done`` of the instructions under way, as far as they are known now."""
        return [plan.done for plan in self._plans if plan.done != NEVER]

    @property
    def oldest_start(self) -> int | None:
        """Start of the oldest instruction under way."""
        return self._plans[0].start if self._plans else None

    def start(self, ins: Load, cycle: int) -> None:
        """Take an instruction; its bursts wait for :meth:`advance`."""
        lengths = list(transfer_bursts(self._config, ins, self._bases[Segment(ins.segment)]))
        memory = Memory(ins.memory)
        mask = bank_masks(self._config, ins)[1] if memory is Memory.ACTIVATION else 0
        plan = _Plan(ins, cycle, mask, len(lengths), self._word_beats[memory])
        self._plans.append(plan)
        self.ready_at = None
        if self._plan is None:
            self._begin(plan, lengths, cycle + ADDRESS_DELAY)
        else:
            # The last address of the instruction before is still on its way.
            self._next = (plan, lengths, cycle + ADDRESS_DELAY)

    def finish(self) -> None:
        """The oldest instruction is done."""
        self._plans.popleft()

    def _begin(self, plan: _Plan, lengths: list[int], earliest: int) -> None:
        self._plan, self._lengths, self._at = plan, lengths, 0
        self._offer(earliest)

    def _offer(self, earliest: int) -> None:
        """Find when the next burst is offered, if the end of the one whose place it takes is known."""
        self._earliest = earliest
        self.address_at = NEVER
        if self._under_way < self._outstanding:
            self.address_at = max(earliest, self._accepted + 1, self._ends[self._under_way] + REUSE_DELAY)
            if self._at == len(self._lengths) - 1:
                self.ready_at = self.address_at

    def follow(self) -> None:
        """Take notice of bursts that have passed."""
        self._take_ends()
        if self.address_at == NEVER and self._plan is not None:
            self._offer(self._earliest)

    def _take_ends(self) -> None:
        ended = self._bus.ended
        while ended:
            self._ends.append(ended.popleft())
            self._under_way -= 1

    def advance(self, until: int) -> None:
        """Ask for bursts up to a cycle."""
        bus = self._bus
        while self.address_at <= until and bus.settles_at > self.address_at:
            if self.address_at <= bus.last_address:
                self.address_at = bus.last_address + 1
                continue
            assert self._plan is not None
            self._under_way += 1
            self._accepted = self.address_at
            bus.request(self._accepted, self._lengths[self._at], self._plan)
            self._at += 1
            self._take_ends()
            if self._at < len(self._lengths):
                self._offer(self._accepted + 1)
                continue
            self._plan = None
            self.address_at = NEVER
            if self._next is not None:
                self._begin(*self._next)
                self._next = None
