# SPDX-License-Identifier: Apache-2.0
"""Times of the ``EXEC`` engine: when passes begin and vectors are issued, over the end of an instruction as well.

As long as no port of a bank is held by others, whole passes are taken at once. Where it may be, the walk goes vector by
vector. When somebody begins to hold ports while instructions are under way, their future is worked out anew; the
past does not change by it.
"""

from collections import deque
from copy import copy
from dataclasses import dataclass, field

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.exec_timing import ExecTimeline
from tilewright_hdl.isa import Exec
from tilewright_hdl.timing import exec_pass

from .cycle_ports import PortUse, PortUses, bank_masks, first_free
from .cycle_runs import CycleRuns

__all__ = ["Computing"]


@dataclass
class _Plan:
    """An instruction under way."""

    ins: Exec
    start: int
    mask: int
    before: ExecTimeline
    stalls: CycleRuns = field(default_factory=CycleRuns)
    last: int = 0
    done: int = 0


class Computing:
    """The ``EXEC`` engine.

    Parameters
    ----------
    config : AcceleratorConfig
    uses : PortUses
        Reads of those who come before ``EXEC``.
    """

    def __init__(self, config: AcceleratorConfig, uses: PortUses):
        self._config = config
        self._rows = config.array.rows
        self._uses = uses
        self._timeline = ExecTimeline(config)
        self._plans: deque[_Plan] = deque()
        self._stalled = 0
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

    def start(self, ins: Exec, cycle: int) -> None:
        """Take an instruction."""
        plan = _Plan(ins, cycle, bank_masks(self._config, ins)[0], self._timeline)
        self._plans.append(plan)
        self._walk(plan)

    def finish(self) -> None:
        """The oldest instruction is done."""
        plan = self._plans.popleft()
        self._stalled += plan.stalls.before(plan.done)

    def stalled_before(self, cycle: int) -> int:
        """Cycles before ``cycle`` in which an instruction was under way and no vector was issued."""
        return self._stalled + sum(plan.stalls.before(cycle) for plan in self._plans)

    def disturb(self, mask: int, cycle: int) -> bool:
        """Take notice of new uses of some banks after a cycle; gives whether times may have changed."""
        affected = [plan.last > cycle for plan in self._plans]
        if not any(plan.mask & mask and late for plan, late in zip(self._plans, affected, strict=True)):
            return False
        first = affected.index(True)
        self._timeline = self._plans[first].before
        for plan in list(self._plans)[first:]:
            self._walk(plan)
        return True

    def _walk(self, plan: _Plan) -> None:
        """Work out the times of an instruction from the timeline as it stands."""
        plan.before = copy(self._timeline)
        plan.stalls = CycleRuns()
        self._timeline.transfer(plan.start, plan.ins)
        uses = self._uses.overlapping(plan.mask, plan.start)
        if uses:
            self._contend(plan, uses)
        else:
            self._stride(plan, plan.ins.passes)
        plan.last = self._timeline.earliest - 1
        plan.done = self._timeline.done
        self.ready_at = self._timeline.ready

    def _begin_pass(self, plan: _Plan) -> None:
        timeline = self._timeline
        waiting, stalled = max(timeline.earliest, plan.start + 1), timeline.stall
        timeline.begin_pass()
        plan.stalls.add(waiting, timeline.stall - stalled)

    def _stride(self, plan: _Plan, passes: int) -> None:
        """Passes in which nobody is in the way."""
        timeline, vectors = self._timeline, plan.ins.vectors
        self._begin_pass(plan)
        first = timeline.earliest
        timeline.issue(first, vectors)
        if passes > 1:
            gap = exec_pass(self._config, vectors, plan.ins.taps) - vectors
            plan.stalls.add(first + vectors, gap, period=vectors + gap, count=passes - 1)
            timeline.issue_passes(passes - 1)

    def _contend(self, plan: _Plan, uses: list[PortUse]) -> None:
        """Passes in which somebody may hold the port of a bank."""
        timeline, ins = self._timeline, plan.ins
        banks = _Banks(self._config, ins, plan.mask)
        at = 0
        while at < ins.passes:
            # As many passes as end for certain before the next use begins; all, if there is none.
            now = max(timeline.earliest, plan.start + 1)
            uses = [use for use in uses if use.end > now]
            clear = ins.passes - at
            if uses:
                room = min(use.begin for use in uses) - now - self._rows
                clear = min(clear, room // exec_pass(self._config, ins.vectors, ins.taps))
            if clear > 0:
                self._stride(plan, clear)
                at += clear
            else:
                self._begin_pass(plan)
                self._issue(plan, banks, at, uses)
                at += 1

    def _issue(self, plan: _Plan, banks: "_Banks", number: int, uses: list[PortUse]) -> None:
        """Vectors of a pass, one by one while somebody may be in the way."""
        timeline, vectors = self._timeline, plan.ins.vectors
        # Vectors from ``begun`` on have not been issued; they need not wait.
        at = begun = 0
        now = changed = timeline.earliest
        while at < vectors:
            if now >= changed:
                uses = [use for use in uses if use.end > now]
                ahead = min((use.begin for use in uses), default=now + vectors) - now
                if ahead > 0:
                    count = min(ahead, vectors - at)
                    at += count
                    now += count
                    continue
                changed = min(use.end for use in uses)
            bank = banks.of(number, at)
            cycle = now if bank is None else first_free(uses, bank, now)
            if cycle > now:
                if at > begun:
                    timeline.issue(timeline.earliest, at - begun)
                plan.stalls.add(now, cycle - now)
                timeline.issue(cycle)
                begun = at + 1
            at += 1
            now = cycle + 1
        if at > begun:
            timeline.issue(timeline.earliest, at - begun)


class _Banks:
    """Bank that each vector of an instruction is read from."""

    def __init__(self, config: AcceleratorConfig, ins: Exec, mask: int):
        self._ins = ins
        self._slices = config.array.slices
        self._addresses = config.limits.addresses
        self._size = config.activation_bank_words
        self._wrap = 1 << (config.limits.size_bits + 1)
        self._only = mask.bit_length() - 1 if not mask & (mask - 1) else None

    def of(self, number: int, vector: int) -> int | None:
        """Bank of a vector of a pass; None for padding."""
        ins = self._ins
        if ins.depthwise:
            n, ky = divmod(number, ins.kernel_height)
            y, pixel = divmod(vector - ins.overlap, ins.row_pixels)
            if y < 0:
                return None
            ix, offset, t = ins.first_x + ins.overlap + pixel, pixel * ins.kernel_x_step, n // self._slices
        else:
            rest, t = divmod(number, ins.channel_tiles)
            rest, kx = divmod(rest, ins.kernel_width)
            ky = rest % ins.kernel_height
            y, x = divmod(vector, ins.output_width)
            ix = ins.first_x + x * ins.stride_x + kx * ins.dilation_x
            offset = x * ins.output_x_step + kx * ins.kernel_x_step
        iy = ins.first_y + y * ins.stride_y + ky * ins.dilation_y
        if not (iy % self._wrap < ins.input_height and ix % self._wrap < ins.input_width):
            return None
        if self._only is not None:
            return self._only
        word = ins.input_address + y * ins.output_y_step + ky * ins.kernel_y_step + offset + t
        return word % self._addresses // self._size
