# SPDX-License-Identifier: Apache-2.0
"""What stands in the read channel of :mod:`.cycle_bus`: instructions, bursts, and how far their beats have come."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field

from tilewright_hdl.isa import Load
from tilewright_hdl.window_timing import WindowWalk

from .cycle_runs import NEVER, CycleRuns

__all__ = ["Burst", "Drift", "LoadPlan", "Passing", "Writer"]


@dataclass
class LoadPlan:
    """A ``LOAD`` under way.

    Members
    -------
    mask : int
        Banks of the activation scratchpad that it writes, a bit for each.
    left : int
        Beats of the bursts that have not passed.
    done : int
        Cycle of ``done``, as far as is known now.
    """

    ins: Load
    start: int
    mask: int
    left: int
    word_beats: int
    done: int = NEVER


@dataclass(slots=True)
class Writer:
    """How far the writer is.

    Members
    -------
    word, part : int
        Words of the instruction, and beats of the next word, that have come.
    bank, written : int
        Bank and cycle of the last write to the activation scratchpad; no beat is taken before it.
    since : int
        Cycle from which that write was wanted.
    final : LoadPlan, or None
        The instruction that ended with that write.
    windows : WindowWalk, or None
        Of an instruction with windows that has begun.
    """

    word: int = 0
    part: int = 0
    bank: int = 0
    written: int = -1
    since: int = -1
    final: LoadPlan | None = None
    windows: WindowWalk | None = None

    def copy(self) -> "Writer":
        windows = copy(self.windows) if self.windows else None
        return Writer(self.word, self.part, self.bank, self.written, self.since, self.final, windows)


@dataclass(slots=True)
class Burst:
    """A burst that has not passed for certain.

    Members
    -------
    earliest : int
        Cycle in which its first beat may be offered.
    plan : LoadPlan, or None
        Whose; None is ``FETCH``.
    """

    earliest: int
    beats: int
    plan: LoadPlan | None
    arrive: Callable[[int, int, int], None] | None = None


@dataclass(slots=True)
class Passing:
    """How the beats at the head of the channel pass if nobody else comes in their way."""

    last: int
    free: int
    writer: Writer
    moved: CycleRuns = field(default_factory=CycleRuns)


@dataclass
class Drift:
    """Windows that are packed without further beats, behind the last beat that has passed.

    Members
    -------
    before : Writer
        As it was after that beat.
    mask : int
        Banks that are written.
    """

    before: Writer
    mask: int
    moved: CycleRuns = field(default_factory=CycleRuns)
