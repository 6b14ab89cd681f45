# SPDX-License-Identifier: Apache-2.0
"""Times of the read channel, which ``FETCH`` and ``LOAD`` share.

The rules and delays are those of :mod:`tilewright_hdl.bus_timing`, for engines that are not alone: a burst's beats
come after those of all bursts asked for before it, whoever asked. When the last beat of a word for the activation
scratchpad has come, the channel stands still until ``POST`` leaves the word's bank to it. So the beats of such a burst
are certain only when they have passed; other bursts are certain as soon as all before them are. Windows take beats when
they need them (:mod:`tilewright_hdl.window_timing`), and go on behind a burst's last beat.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tilewright_hdl.bus_timing import DONE_DELAY
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.window_timing import WindowWalk

from .cycle_bus_parts import Burst, Drift, LoadPlan, Passing, Writer
from .cycle_ports import PortUses, first_free
from .cycle_runs import NEVER, CycleRuns

__all__ = ["MemoryTiming", "ReadBus"]


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


class ReadBus:
    """Beats of the read channel, in the order of the bursts.

    Parameters
    ----------
    config : AcceleratorConfig
    memory : MemoryTiming
    uses : PortUses
        Writes of ``POST``.
    first_write : callable
        Gives how long after the start of the next ``POST`` some banks may be written, by it or by one behind it.
    """

    def __init__(self, config: AcceleratorConfig, memory: MemoryTiming, uses: PortUses,
                 first_write: Callable[[int], int]):
        self._config = config
        self._size = config.activation_bank_words
        self.latency, self.period = memory.latency, memory.beat_period
        self._uses = uses
        self._first_write = first_write
        self._queue: deque[Burst] = deque()
        self.free = 0
        """Cycle from which the next beat may be offered, as far as bursts have passed."""
        self._writer = Writer()
        self._passing: Passing | None = None
        self._moved = CycleRuns()
        self._drift: Drift | None = None
        self.post_from = 0
        """Before this cycle no ``POST`` starts whose writes are not in ``uses`` yet."""
        self.post_waits = 0
        """The same, whatever happens on the bus."""
        self.last_address = -1
        """Cycle of the last address; there is one a cycle at most."""
        self.settles_at = NEVER
        """Cycle in which the burst at the head has passed, as far as is known now."""
        self.ended: deque[int] = deque()
        """Last beats of the bursts of ``LOAD`` that have passed; the reader removes them."""

    def request(self, cycle: int, beats: int, to: "LoadPlan | Callable[[int, int, int], None]") -> None:
        """Ask for a burst; ``to`` is who gets the beats: a ``LOAD``, or what takes first cycle, beats and period."""
        self.last_address = cycle
        earliest = cycle + self.latency
        if isinstance(to, LoadPlan):
            self._queue.append(Burst(earliest, beats, to))
        else:
            self._queue.append(Burst(earliest, beats, None, to))
        if self._passing is None:
            self._pass(cycle)

    def clear_for(self, plan: LoadPlan, first: int) -> int:
        """Cycle before which nobody is, or can come, in the way of beats that are offered from ``first`` on.

        It is 0 if somebody may be already. For windows, that goes for the writes before them: :meth:`pack_clear` looks
        after theirs.
        """
        if self._queue or not self._writer_is_clear():
            return 0
        if plan.ins.window:
            return NEVER
        if self._writer.written > first:
            return 0
        return self._clear(plan.mask, first) if plan.mask else NEVER

    def _writer_is_clear(self) -> bool:
        """Whether the writes that are wanted are done before anybody can come in their way."""
        return self._writer.written < self.post_from + self._first_write(self._wanted)

    @property
    def _wanted(self) -> int:
        """Banks of the writes that are wanted."""
        return self._drift.mask if self._drift else 1 << self._writer.bank

    def _clear(self, mask: int, cycle: int) -> int:
        """Cycle before which ``POST`` writes to none of some banks, from a cycle on; 0 if it may at once."""
        return 0 if self._uses.overlapping(mask, cycle) else self.post_from + self._first_write(mask)

    def may_settle(self) -> bool:
        """Whether the burst at the head passes before anybody can come in its way."""
        if self.settles_at == NEVER:
            return False
        plan = self._queue[0].plan
        assert plan is not None
        return self.settles_at < self.post_from + self._first_write(plan.mask | self._wanted)

    def take_clear(self, plan: LoadPlan, first: int, beats: int) -> None:
        """Let beats of some bursts pass, one after the other from a cycle on, that nobody can come in the way of."""
        last = first + (beats - 1) * self.period
        if plan.mask:
            self._take(self._writer, plan, beats, last)
        self.free = last + self.period
        if self._drift:
            self._end_drift()
        self._moved.add(first, 1, period=self.period, count=beats)
        plan.left -= beats

    def clear_windows(self, plan: LoadPlan, first: int) -> int:
        """Cycle before which nobody comes in the way of any window from ``first`` on; :meth:`pack_clear` looks closer.
        """
        return self._clear(plan.mask, first)

    def pack_clear(self, plan: LoadPlan, first: int, beats: int, clear_until: int = 0) -> int | None:
        """Let a burst of windows pass, and what it leads to, if nobody can come in the way; gives the last beat.

        Nobody does before ``clear_until``.
        """
        writer = self._writer
        windows = writer.windows
        if windows is None:
            windows = WindowWalk(self._config, plan.ins, written=writer.written)
        now, burst = windows.foresee(first, beats, self.period)
        if now + burst.written >= clear_until:
            low, high = windows.row_banks
            if now + burst.written >= self._clear((2 << high) - (1 << low), first):
                return None
        windows.take_clear(now, burst)
        if self._drift:
            self._end_drift()
        for begin, count in burst.runs:
            self._moved.add(now + begin, count)
        plan.left -= beats
        if burst.packed is not None:
            writer.bank, writer.since, writer.written = windows.bank, windows.since, windows.written
        writer.final, writer.windows = None, windows
        if not plan.left:
            plan.done = windows.written
            writer.final, writer.windows = plan, None
        self.free = now + burst.free
        return now + burst.last

    def _ended(self, plan: LoadPlan, last: int) -> None:
        """A burst has passed, with its last beat and what the writer does about it."""
        if not plan.left:
            self._writer.word = self._writer.part = 0
            plan.done = last + DONE_DELAY
            if plan.mask:
                plan.done = self._writer.written
                self._writer.final = plan
        self.ended.append(last)

    def settle(self) -> None:
        """The burst at the head has passed, in cycle ``settles_at``."""
        cycle = self.settles_at
        # What POST waits for may come with the beats behind this burst, or with the address that waits for its end.
        self.post_from = max(self.post_waits, min(self.post_from, cycle))
        self._end()
        self._pass(cycle)

    def disturb(self, mask: int, cycle: int) -> bool:
        """Take notice of new writes to some banks after a cycle; gives whether times of ``LOAD`` may have changed."""
        writer = self._writer
        open_end = writer.written > cycle and writer.final is not None
        if writer.written > cycle and self._drift and mask & self._drift.mask:
            self._go_on(self._drift.before, self._drift.mask)
        elif writer.written > cycle and not self._drift and mask >> writer.bank & 1:
            self._write(writer)
            if writer.final is not None:
                writer.final.done = writer.written
        if self._passing is not None:
            self._predict()
        return open_end

    def moved_before(self, cycle: int) -> int:
        """Beats of ``LOAD`` before a cycle."""
        foreseen = (self._drift, self._passing)
        return self._moved.before(cycle) + sum(part.moved.before(cycle) for part in foreseen if part)

    def _go_on(self, writer: Writer, mask: int) -> None:
        """Pack the windows that need no further beat, from a state of the writer on."""
        self._drift = drift = Drift(writer, mask)
        self._writer = writer = writer.copy()
        windows = writer.windows
        assert windows is not None
        windows.drift(drift.moved.add, self._write_by(mask, windows.since))
        writer.bank, writer.since, writer.written = windows.bank, windows.since, windows.written
        if writer.final is not None:
            writer.final.done = windows.written
            writer.windows = None

    def _end_drift(self) -> None:
        """Make the windows that were packed without further beats the past."""
        if self._drift:
            self._moved.extend(self._drift.moved)
            self._drift = None

    def _write_by(self, mask: int, since: int) -> Callable[[int, int], int] | None:
        """What gives the cycle of a write from its bank and when it is wanted; None if nobody is in the way."""
        uses = self._uses.overlapping(mask, since)
        return partial(first_free, uses) if uses else None

    def _write(self, writer: Writer) -> None:
        """Find the cycle of the write that is wanted since ``writer.since``."""
        uses = self._uses.overlapping(1 << writer.bank, writer.since)
        writer.written = first_free(uses, writer.bank, writer.since)

    def _pass(self, now: int) -> None:
        """Let bursts pass that are certain, and foresee the next."""
        while self._queue:
            burst = self._queue[0]
            if burst.plan is None:
                first = max(burst.earliest, self.free)
                self._queue.popleft()
                self.free = first + burst.beats * self.period
                assert burst.arrive is not None
                burst.arrive(first, burst.beats, self.period)
                continue
            if self._pass_clear(burst, burst.plan):
                self._queue.popleft()
                continue
            self._predict()
            if burst.plan.mask or self._writer.written > now:
                return
            self._end()

    def _pass_clear(self, burst: Burst, plan: LoadPlan) -> bool:
        """Let a burst pass if nobody can come in its way; gives whether that is so."""
        first = max(burst.earliest, self.free)
        if not self._writer_is_clear():
            return False
        if plan.ins.window:
            end = self.pack_clear(plan, first, burst.beats)
            if end is None:
                return False
            self.ended.append(end)
            return True
        last = first + (burst.beats - 1) * self.period
        if self._writer.written > first or (plan.mask and last >= self._clear(plan.mask, first)):
            return False
        self.take_clear(plan, first, burst.beats)
        self._ended(plan, last)
        return True

    def _end(self) -> None:
        """Make what was foreseen the past."""
        passing, burst = self._passing, self._queue.popleft()
        assert passing is not None and burst.plan is not None
        self._passing = None
        self.settles_at = NEVER
        self.free, self._writer = passing.free, passing.writer
        self._end_drift()
        self._moved.extend(passing.moved)
        plan = burst.plan
        plan.left -= burst.beats
        if not plan.ins.window:
            self._ended(plan, passing.last)
            return
        self._writer.final = None if plan.left else plan
        self._go_on(self._writer, plan.mask)
        self.ended.append(passing.last)

    def _predict(self) -> None:
        """Foresee how the burst at the head passes."""
        burst = self._queue[0]
        plan = burst.plan
        assert plan is not None
        period = self.period
        first = max(burst.earliest, self.free)
        passing = Passing(0, 0, self._writer.copy())
        writer = passing.writer
        if plan.ins.window:
            self._pack(burst, passing)
            return
        uses = self._uses.overlapping(plan.mask, first) if plan.mask else []
        if uses or writer.written > first:
            self._beat_by_beat(burst, passing)
        else:
            passing.last = first + (burst.beats - 1) * period
            passing.free = passing.last + period
            passing.moved.add(first, 1, period=period, count=burst.beats)
            if plan.mask:
                self._take(writer, plan, burst.beats, passing.last)
        self._passing = passing
        self.settles_at = passing.last

    def _pack(self, burst: Burst, passing: Passing) -> None:
        """Foresee how a burst of windows passes."""
        plan, writer = burst.plan, passing.writer
        assert plan is not None
        if writer.windows is None:
            writer.windows = WindowWalk(self._config, plan.ins, written=writer.written)
        first = max(burst.earliest, self.free)
        passing.last, passing.free = writer.windows.take_burst(
            first, burst.beats, self.period, passing.moved.add,
            self._write_by(plan.mask, writer.windows.since or first))
        self._passing = passing
        self.settles_at = passing.last

    def _beat_by_beat(self, burst: Burst, passing: Passing) -> None:
        plan, period, writer = burst.plan, self.period, passing.writer
        assert plan is not None
        free = self.free
        for _ in range(burst.beats):
            offered = max(burst.earliest, free)
            taken = max(offered, writer.written)
            free = max(taken + 1, offered + period)
            passing.moved.add(taken, 1)
            passing.last = taken
            if plan.mask and self._take(writer, plan, 1, taken):
                self._write(writer)
        passing.free = free

    def _take(self, writer: Writer, plan: LoadPlan, beats: int, last: int) -> bool:
        """Put beats together to words, without a gap and the last one in a cycle; gives whether a word is complete."""
        words, part = divmod(writer.part + beats, plan.word_beats)
        writer.word += words
        writer.part = part
        if words:
            row, column = divmod(writer.word - 1, plan.ins.words)
            writer.bank = (plan.ins.address + row * plan.ins.stride + column) // self._size
            writer.since = writer.written = last - part * self.period + DONE_DELAY
            writer.final = None
        return words > 0
