# SPDX-License-Identifier: Apache-2.0
"""Times of the ``LOAD`` engine: which bursts it asks for, and when."""

from collections import deque

from tilewright_hdl.bus_timing import ADDRESS_DELAY, REUSE_DELAY, memory_sizes, transfer_row_beats, transfer_runs
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory, Segment

from .cycle_bus import ReadBus
from .cycle_bus_parts import LoadPlan
from .cycle_ports import bank_masks
from .cycle_runs import NEVER

__all__ = ["Loading"]


class Loading:
    """The ``LOAD`` engine.

    Parameters
    ----------
    config : AcceleratorConfig
    bus : ReadBus
    bases : dict of Segment to int
    """

    def __init__(self, config: AcceleratorConfig, bus: ReadBus, bases: dict[Segment, int]):
        self._config = config
        self._bus = bus
        self._bases = {int(segment): base for segment, base in bases.items()}
        self._word_beats = {int(memory): config.beats(size) for memory, (_, size) in memory_sizes(config).items()}
        self._outstanding = config.bus.outstanding
        self._longest = config.bus.burst_beats
        self._ends: deque[int] = deque([-NEVER] * self._outstanding, self._outstanding)
        self._under_way = 0
        self._accepted = -1
        self._plans: deque[LoadPlan] = deque()
        self._plan: LoadPlan | None = None
        self._runs: deque[tuple[int, int]] = deque()
        self._length = 0
        self._beats = 0
        self._count = 0
        self._earliest = 0
        self._next: tuple[LoadPlan, deque[tuple[int, int]], int] | None = None
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
        runs = deque(transfer_runs(self._config, ins, self._bases[ins.segment]))
        mask = bank_masks(self._config, ins)[1] if ins.memory == Memory.ACTIVATION else 0
        beats = ins.rows * transfer_row_beats(self._config, ins)
        plan = LoadPlan(ins, cycle, mask, beats, self._word_beats[ins.memory])
        self._plans.append(plan)
        self.ready_at = None
        if self._plan is None:
            self._begin(plan, runs, cycle + ADDRESS_DELAY)
        else:
            # The last address of the instruction before is still on its way.
            self._next = (plan, runs, cycle + ADDRESS_DELAY)

    @property
    def ready_after(self) -> int:
        """No instruction is taken before this cycle, unless ``ready_at`` is known.

        The last address waits for the end of a burst, and that for all beats before it.
        """
        return self.address_at + max(0, (self._beats - self._outstanding * self._longest) * self._bus.period)

    def finish(self) -> None:
        """The oldest instruction is done."""
        self._plans.popleft()

    def _begin(self, plan: LoadPlan, runs: deque[tuple[int, int]], earliest: int) -> None:
        self._plan, self._runs = plan, runs
        self._beats = plan.left
        self._next_run()
        self._offer(earliest)

    def _next_run(self) -> None:
        self._length, self._count = self._runs.popleft()

    def _offer(self, earliest: int) -> None:
        """Find when the next burst is offered, if the end of the one whose place it takes is known."""
        self._earliest = earliest
        self.address_at = NEVER
        if self._under_way < self._outstanding:
            self.address_at = max(earliest, self._accepted + 1, self._ends[self._under_way] + REUSE_DELAY)
            if self._count == 1 and not self._runs:
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
            if self._rush(self._plan, until):
                continue
            self._under_way += 1
            self._count -= 1
            self._beats -= self._length
            self._accepted = self.address_at
            bus.request(self._accepted, self._length, self._plan)
            self._take_ends()
            if not self._count and self._runs:
                self._next_run()
            if self._count:
                self._offer(self._accepted + 1)
                continue
            self._plan = None
            self.address_at = NEVER
            if self._next is not None:
                self._begin(*self._next)
                self._next = None

    def _rush(self, plan: LoadPlan, until: int) -> bool:
        """Ask for bursts up to a cycle, but never for the last one, while nobody can come in the way of their beats.

        Gives whether there was one. Bursts of a run follow at once where each takes the place of one that ended
        ``outstanding`` bursts before, and its beats are ready when those before it have passed.
        """
        bus, ends, address, asked = self._bus, self._ends, self.address_at, 0
        clear_until = 0 if self._under_way else bus.clear_for(plan, max(address + bus.latency, bus.free))
        if plan.ins.window:
            return clear_until > 0 and self._rush_windows(plan, until)
        while self._runs or self._count > 1:
            length, time = self._length, self._length * bus.period
            first = max(address + bus.latency, bus.free)
            last = first + time - bus.period
            if address > until or last >= clear_until:
                break
            count = 1
            if self._count > self._outstanding and address == ends[0] + REUSE_DELAY and first == bus.free:
                count = self._gapless(time, until, min(self._count - (not self._runs),
                                                       (clear_until - 1 - last) // time + 1))
            bus.take_clear(plan, first, count * length)
            asked += count
            self._beats -= count * length
            self._count -= count
            self._accepted = address
            if count > self._outstanding:
                self._accepted = last + (count - 1 - self._outstanding) * time + REUSE_DELAY
            for i in range(max(0, count - self._outstanding), count):
                ends.append(last + i * time)
            if not self._count:
                self._next_run()
            address = max(self._accepted + 1, ends[0] + REUSE_DELAY)
        if asked:
            bus.last_address = self._accepted
            self._offer(self._accepted + 1)
        return asked > 0

    def _gapless(self, time: int, until: int, most: int) -> int:
        """How many bursts of ``time`` cycles follow each other without a gap, if the next one does; 1 if few.

        Each is asked for when the one whose place it takes has ended, the last of them by the cycle ``until``. Those
        places are of bursts before these, and then of these.
        """
        free, delay = self._bus.free, REUSE_DELAY + self._bus.latency
        if delay - self._bus.period > (self._outstanding - 1) * time:
            return 1
        if any(end + delay > free + i * time for i, end in enumerate(self._ends)):
            return 1
        count = min(most, (until - REUSE_DELAY + self._bus.period - free) // time + self._outstanding)
        return count if count > self._outstanding else 1

    def _rush_windows(self, plan: LoadPlan, until: int) -> bool:
        """:meth:`_rush` for windows, burst by burst."""
        bus, ends, address, asked = self._bus, self._ends, self.address_at, False
        clear_until = bus.clear_windows(plan, max(address + bus.latency, bus.free))
        while (self._runs or self._count > 1) and address <= until:
            last = bus.pack_clear(plan, max(address + bus.latency, bus.free), self._length, clear_until)
            if last is None:
                break
            asked = True
            ends.append(last)
            self._beats -= self._length
            self._count -= 1
            self._accepted = address
            if not self._count:
                self._next_run()
            address = max(address + 1, ends[0] + REUSE_DELAY)
        if asked:
            bus.last_address = self._accepted
            self._offer(self._accepted + 1)
        return asked
