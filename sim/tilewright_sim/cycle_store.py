# SPDX-License-Identifier: Apache-2.0
"""Times of the ``STORE`` engine, which has the write channel for itself but shares the banks of the scratchpad.

While nobody holds a port before it, the times of a burst follow from that of the burst before. Otherwise, and when
somebody asks in which cycles it reads, the walk goes word by word.
"""

from collections import deque
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field

from tilewright_hdl.bus_timing import (
    ADDRESS_DELAY,
    DONE_DELAY,
    READ_DELAY,
    REUSE_DELAY,
    StoreTiming,
    store_timing,
    transfer_bursts,
)
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Segment, Store

from .cycle_ports import Cycles, PortUse, PortUses, bank_masks, first_free
from .cycle_runs import NEVER, CycleRuns

__all__ = ["Storing"]

@dataclass
class _State:
    """How far the engine is.

    Members
    -------
    answers : deque of int
        Responses to the last ``outstanding`` bursts.
    sent, announced : int
        Last beat, and last address.
    read : int
        Last grant.
    left : deque of int
        Leaves of the last words.
    """

    answers: deque[int]
    sent: int = -1
    announced: int = -1
    read: int = -1
    left: deque[int] = field(default_factory=deque)

    @classmethod
    def of(cls, config: AcceleratorConfig, timing: StoreTiming) -> "_State":
        """Before the first instruction."""
        outstanding = config.bus.outstanding
        return cls(deque([-NEVER] * outstanding, outstanding), left=deque([-NEVER] * timing.ahead, timing.ahead))

    def copy(self) -> "_State":
        return _State(copy(self.answers), self.sent, self.announced, self.read, copy(self.left))


@dataclass
class _Plan:
    """An instruction under way."""

    ins: Store
    start: int
    mask: int
    before: _State
    use: PortUse
    beats: CycleRuns = field(default_factory=CycleRuns)
    done: int = 0


class Storing:
    """The ``STORE`` engine.

    Parameters
    ----------
    config : AcceleratorConfig
    latency : int
        Cycles from the last beat of a burst to the response.
    bases : dict of Segment to int
    before : PortUses
        Reads of those who come before ``STORE``.
    uses : PortUses
        Gets the reads of ``STORE``.
    """

    def __init__(self, config: AcceleratorConfig, latency: int, bases: dict[Segment, int], before: PortUses,
                 uses: PortUses):
        self._config = config
        self._word_beats = config.beats(config.array.rows)
        self._latency = latency
        self._bases = bases
        self._before = before
        self._uses = uses
        self._timing = store_timing(config)
        self._state = _State.of(config, self._timing)
        self._plans: deque[_Plan] = deque()
        self._sent_beats = 0
        self.ready_at = 0
        """Cycle from which the next instruction can be taken."""

    @property
    def done(self) -> list[int]:
        """Cycles of ``done`` of the instructions under way, as far as is known now."""
        return [plan.done for plan in self._plans]

    @property
    def oldest_start(self) -> int | None:
        """Start of the oldest instruction under way."""
        return self._plans[0].start if self._plans else None

    def start(self, ins: Store, cycle: int, *, forget: int) -> int:
        """Take an instruction; gives the banks that it reads. Uses that ended before cycle ``forget`` are dropped."""
        mask = bank_masks(self._config, ins)[0]
        plan = _Plan(ins, cycle, mask, self._state, PortUse(mask, 0, 0, dict))
        self._plans.append(plan)
        self._uses.add(plan.use, forget=forget)
        self._walk(plan)
        return mask

    def finish(self) -> None:
        """The oldest instruction is done."""
        plan = self._plans.popleft()
        self._sent_beats += plan.beats.before(plan.done)

    def sent_before(self, cycle: int) -> int:
        """Beats sent before ``cycle``."""
        return self._sent_beats + sum(plan.beats.before(cycle) for plan in self._plans)

    def disturb(self, mask: int, cycle: int) -> int:
        """Take notice of new uses of some banks after a cycle; gives the banks whose reads may have changed."""
        affected = [plan.use.end > cycle for plan in self._plans]
        if not any(plan.mask & mask and late for plan, late in zip(self._plans, affected, strict=True)):
            return 0
        first = affected.index(True)
        changed = 0
        self._state = self._plans[first].before
        for plan in list(self._plans)[first:]:
            self._walk(plan)
            changed |= plan.mask
        return changed

    def _walk(self, plan: _Plan) -> None:
        """Work out the times of an instruction from the state as it stands."""
        plan.before = self._state.copy()
        plan.beats = CycleRuns()
        uses = self._before.overlapping(plan.mask, plan.start)
        if uses:
            reads = self._by_words(plan, uses)
            work_out = lambda: reads  # noqa: E731
        else:
            self._by_bursts(plan)
            state = plan.before
            work_out = lambda: self._undisturbed_reads(plan, state.copy())  # noqa: E731
        use = PortUse(plan.mask, plan.start + READ_DELAY, self._state.read + 1, work_out)
        self._uses.replace(plan.use, use)
        plan.use = use
        plan.done = self._state.sent + self._latency + DONE_DELAY

    def _by_bursts(self, plan: _Plan) -> None:
        recent: deque[tuple[int, int]] = deque(maxlen=(self._timing.ahead + 1) * self._word_beats)
        for first, beats in self._bursts(plan, self._state):
            plan.beats.add(first, beats)
            recent.append((first, beats))
        self.ready_at = self._state.announced
        self._leave(plan, recent)

    def _bursts(self, plan: _Plan, state: _State) -> Iterator[tuple[int, int]]:
        """First cycle and beats of the bursts, with nobody before the reads; ``state`` goes along, without them."""
        announced = plan.start + ADDRESS_DELAY - 1
        sent = max(state.sent, plan.start + self._timing.first - 1)
        for beats in transfer_bursts(self._config, plan.ins, self._bases[Segment(plan.ins.segment)]):
            announced = max(announced + 1, state.answers[0] + REUSE_DELAY)
            first = max(sent + 1, announced + self._timing.data)
            sent = first + beats - 1
            state.answers.append(sent + self._latency)
            yield first, beats
        state.sent = sent
        state.announced = announced

    def _leave(self, plan: _Plan, recent: deque[tuple[int, int]]) -> None:
        """Bring the reader's state up to the end of an instruction whose last bursts are known."""
        state, words, timing = self._state, plan.ins.words * plan.ins.rows, self._timing
        # Last beats of the last words, and one more, for the place that the last word's read waited for.
        leaves: list[int] = []
        skip = 0
        for first, beats in reversed(recent):
            while skip < beats and len(leaves) <= timing.ahead and len(leaves) < words:
                leaves.append(first + beats - 1 - skip - timing.send)
                skip += self._word_beats
            skip -= beats
        freed = leaves[timing.ahead] if words > timing.ahead else state.left[words - 1]
        state.read = max(freed + timing.reuse, plan.start + READ_DELAY + words - 1, state.read + words)
        state.left.extend(reversed(leaves[:timing.ahead]))

    def _undisturbed_reads(self, plan: _Plan, state: _State) -> dict[int, Cycles]:
        """Cycles of the reads by bank, with nobody before them: each waits for a place that a word has left."""
        ins, size, timing = plan.ins, self._config.activation_bank_words, self._timing
        beats = [cycle for first, count in self._bursts(plan, state) for cycle in range(first, first + count)]
        left = [*state.left, *(cycle - timing.send for cycle in beats[self._word_beats - 1::self._word_beats])]
        read = max(state.read, plan.start + READ_DELAY - 1)
        cycles = [read := max(read + 1, freed + timing.reuse) for freed in left[:ins.words * ins.rows]]
        reads: dict[int, set[int]] = {}
        for row in range(ins.rows):
            begin, at = ins.address + row * ins.stride, row * ins.words
            while at < (row + 1) * ins.words:
                word = begin + at - row * ins.words
                count = min(size - word % size, (row + 1) * ins.words - at)
                reads.setdefault(word // size, set()).update(cycles[at:at + count])
                at += count
        return dict(reads)

    def _by_words(self, plan: _Plan, uses: list[PortUse]) -> dict[int, Cycles]:
        """Follow an instruction word by word; gives the cycles of its reads by bank."""
        ins, size, state, sent = plan.ins, self._config.activation_bank_words, self._state, plan.beats
        timing = self._timing
        reads: dict[int, set[int]] = {}
        read = max(state.read, plan.start + READ_DELAY - 1)
        leave = state.sent - timing.send
        # From the grant of a read to the word's leave, at the earliest.
        arrival = timing.first - READ_DELAY - timing.send
        announced = plan.start + ADDRESS_DELAY - 1
        words = (ins.address + row * ins.stride + word for row in range(ins.rows) for word in range(ins.words))
        part = self._word_beats
        arrived = begun = beat = 0
        for beats in transfer_bursts(self._config, ins, self._bases[Segment(ins.segment)]):
            announced = max(announced + 1, state.answers[0] + REUSE_DELAY)
            free = announced + timing.data - timing.send
            for _ in range(beats):
                if part == self._word_beats:
                    part = 0
                    bank = next(words) // size
                    read = first_free(uses, bank, max(read + 1, state.left[0] + timing.reuse))
                    reads.setdefault(bank, set()).add(read)
                    arrived = read + arrival
                leave = max(leave + 1, arrived, free)
                if leave + timing.send > beat:
                    sent.add(begun, beat - begun)
                    begun = leave + timing.send
                beat = leave + timing.send + 1
                part += 1
                if part == self._word_beats:
                    state.left.append(leave)
            state.answers.append(leave + timing.send + self._latency)
        sent.add(begun, beat - begun)
        state.read = read
        state.sent = leave + timing.send
        self.ready_at = announced
        return dict(reads)
