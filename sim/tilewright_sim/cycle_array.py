# SPDX-License-Identifier: Apache-2.0
"""Times of the array: when passes begin, over the end of an instruction as well."""

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.exec_timing import ExecTimeline
from tilewright_hdl.isa import Exec

from .cycle_runs import CycleRuns

__all__ = ["Computing"]


class Computing:
    """The ``EXEC`` engine."""

    def __init__(self, config: AcceleratorConfig):
        self._rows = config.array.rows
        self._timeline = ExecTimeline(config)
        self._free = 0
        self.stalls = CycleRuns()
        """Cycles in which an instruction is under way and no vector is issued."""

    def start(self, ins: Exec, cycle: int) -> tuple[int, int]:
        """Take an instruction; gives the cycles in which the engine is ready for the next one, and of ``done``."""
        timeline = self._timeline
        passes, vectors = ins.passes, ins.vectors
        waiting = max(self._free, cycle + 1)
        timeline.transfer(cycle)
        stalled = timeline.stall
        timeline.begin_pass()
        self.stalls.add(waiting, timeline.stall - stalled)
        first = timeline.earliest
        timeline.issue(first, vectors)
        if passes > 1:
            gap = max(0, self._rows - vectors)
            self.stalls.add(first + vectors, gap, period=vectors + gap, count=passes - 1)
            timeline.issue_passes(passes - 1, vectors)
        self._free = timeline.earliest
        return timeline.ready, timeline.done
