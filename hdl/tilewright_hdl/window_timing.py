# SPDX-License-Identifier: Apache-2.0
"""Cycles in which windows are packed; :class:`~.window_packer.WindowPacker` keeps to them. Nothing imports Amaranth.

A row begins when its first beat is offered and all words before it are written. From then on the buffer holds
:func:`window_beats` beats, at first padding; beats come in at its end, those of the row and then padding. The window
stands ``offset`` bytes from the begin of the buffer. Below one beat, it is packed in each cycle in which the register
for words is free; else a beat comes in, already in the cycle of the packing if that moves the window beyond the first
beat. The last window of a row waits for the row's last beat, which may be behind all windows.
"""

from collections.abc import Callable
from copy import copy
from functools import lru_cache
from typing import NamedTuple, Self

from .config import AcceleratorConfig
from .isa import Load

__all__ = ["WindowWalk", "row_beats", "window_beats"]


def window_beats(config: AcceleratorConfig) -> int:
    """Beats in which a word lies for certain, wherever in the first one it begins."""
    beat = config.bus.data_bytes
    return -(-(config.array.rows + beat - 1) // beat)


def row_beats(config: AcceleratorConfig, instruction: Load) -> int:
    """Beats of a row of windows."""
    return -(-instruction.row_bytes // config.bus.data_bytes)


Moved = Callable[[int, int], object]
Write = Callable[[int, int], int]


class ClearBurst(NamedTuple):
    """What a burst does, and what is packed behind it, where nothing is in the way of the writes.

    Cycles count from the first that matters. The members from ``rows`` on are the state afterwards, as in
    :class:`WindowWalk`.

    Members
    -------
    last, free : int
        Cycle of the last beat, and that from which the next burst's first beat may be offered.
    written : int
        Cycle in which the last word is written that was packed until then.
    runs : list of (int, int)
        First cycle and number of those in which there is a beat or a window.
    """

    last: int
    free: int
    written: int
    runs: list[tuple[int, int]]
    rows: int
    packed: int | None
    begun: bool
    offset: int
    word: int
    beats: int
    cycle: int
    since: int
    moved: int


@lru_cache(maxsize=1024)
def _clear_bursts(*shape: int) -> dict[tuple[int, ...], ClearBurst]:
    """What is known about the bursts of instructions with rows of one shape."""
    return {}


def _extend(runs: list[tuple[int, int]], first: int, count: int) -> None:
    """Add cycles to runs of them."""
    if runs and sum(runs[-1]) == first:
        first, count = runs[-1][0], runs.pop()[1] + count
    runs.append((first, count))


class WindowWalk:
    """The windows of one instruction, from beat to beat.

    Parameters
    ----------
    config : AcceleratorConfig
    instruction : Load
        With ``window``.
    written : int
        Cycle in which the word before the first is written.

    Members
    -------
    since, written : int
        First cycle in which the last word that was packed may be written, and that in which it is.
    """

    def __init__(self, config: AcceleratorConfig, instruction: Load, *, written: int):
        self.since = 0
        self.written = written
        self._bank_words = config.activation_bank_words
        self._cycle = written
        self._ins = instruction
        self._beat = config.bus.data_bytes
        self._row_beats = row_beats(config, instruction)
        self._first_offset = instruction.row_start + window_beats(config) * self._beat
        self._row = 0
        self._word = 0
        self._last = 0, 0
        self._begun = False
        self._offset = 0
        self._beats = 0
        self._moved = -1
        self._known = _clear_bursts(
            self._beat, self._row_beats, self._first_offset, instruction.words, instruction.row_step)

    def __copy__(self) -> Self:
        # Faster than what the module copy does by itself.
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    @property
    def bank(self) -> int:
        """Bank of the last word that was packed."""
        row, word = self._last
        return (self._ins.address + row * self._ins.stride + word * self._ins.step) // self._bank_words

    def take_burst(
        self, first: int, beats: int, period: int, moved: Moved | None = None, write: Write | None = None
    ) -> tuple[int, int]:
        """Take beats that are offered from a cycle on, ``period`` cycles apart at least.

        Parameters
        ----------
        moved : callable, or None
            Called with the first cycle and the number of cycles in which there was a beat or a window.
        write : callable, or None
            Gives the cycle in which a word is written from its bank and the first cycle in which it may be; None: that
            cycle.

        Returns
        -------
        int, int
            Cycle of the last beat, and that from which the next burst's first beat may be offered.
        """
        taken = free = first
        for _ in range(beats):
            offered = free
            taken = self._take(offered, moved, write)
            free = max(taken + 1, offered + period)
        return taken, free

    @property
    def row_banks(self) -> tuple[int, int]:
        """First and last bank of the words of the row that beats come for."""
        begin = self._ins.address + self._row * self._ins.stride
        return begin // self._bank_words, (begin + (self._ins.words - 1) * self._ins.step) // self._bank_words

    def foresee(self, first: int, beats: int, period: int) -> tuple[int, ClearBurst]:
        """What happens until beats have come and what needs no further beat is packed, with nothing in the way.

        Parameters as for :meth:`take_burst`; all that needs no beat has been packed. Gives the cycle from which the
        burst's cycles count, too.
        """
        now = max(self._cycle, first)
        # A beat a cycle is offered when the one before it has been taken, however early that was.
        early = now - first if period > 1 else 0
        key = (self._begun, self._offset, self._word, self._beats, max(0, self.written - now), self._moved >= now,
               early, beats, period)
        known = self._known.get(key)
        if known is None:
            runs: list[tuple[int, int]] = []
            walk = copy(self)
            last, free = walk.take_burst(first, beats, period, lambda begin, count: _extend(runs, begin - now, count))
            walk.drift(lambda begin, count: _extend(runs, begin - now, count))
            self._known[key] = known = ClearBurst(
                last - now, free - now, walk.written - now, runs, walk._row - self._row,
                walk._last[1] if walk.since != self.since else None, walk._begun, walk._offset, walk._word,
                walk._beats, walk._cycle - now, walk.since - now, walk._moved - now)
        return now, known

    def take_clear(self, now: int, burst: ClearBurst) -> None:
        """Let happen what :meth:`foresee` gave."""
        if burst.packed is not None:
            self._last = self._row, burst.packed
            self.since, self.written = now + burst.since, now + burst.written
        if burst.runs:
            self._moved = now + burst.moved
        self._row += burst.rows
        self._begun, self._offset, self._word, self._beats = burst.begun, burst.offset, burst.word, burst.beats
        self._cycle = now + burst.cycle

    def drift(self, moved: Moved | None = None, write: Write | None = None) -> None:
        """Pack the windows that need no further beat; ``moved`` and ``write`` as for :meth:`take_burst`.

        That the last word is not written before ``write`` says is looked after again.
        """
        if write and self.since:
            self.written = write(self.bank, self.since)
        while self._row < self._ins.rows and self._begun:
            if self._offset >= self._beat:
                if self._beats:
                    return
                padding = self._offset // self._beat
                self._offset -= padding * self._beat
                self._cycle += padding
            elif self._word == self._ins.words - 1 and self._beats:
                return
            else:
                self._pack(moved, write)

    def _take(self, offered: int, moved: Moved | None, write: Write | None) -> int:
        """Go on until the next beat, offered from a cycle on, is taken; gives the cycle."""
        self.drift(moved, write)
        cycle = max(self._cycle, offered)
        if not self._begun:
            cycle = max(cycle, self.written)
            self._begun = True
            self._offset = self._first_offset
            self._beats = self._row_beats
            if self._offset < self._beat:
                self._cycle = cycle + 1
                return self._take(offered, moved, write)
        # The last window of a row does not need the beats behind it.
        if self._offset >= self._beat:
            self._offset -= self._beat
        self._beats -= 1
        self._cycle = cycle + 1
        self._move(cycle, 1, moved)
        return cycle

    def _pack(self, moved: Moved | None, write: Write | None) -> None:
        """Pack a window; several where nothing is in their way."""
        ins = self._ins
        first = max(self._cycle, self.written)
        count = 1
        if write is None:
            in_beat = -(-(self._beat - self._offset) // ins.row_step)
            count = max(1, min(in_beat, ins.words - self._word - (self._beats > 0)))
        last = first + count - 1
        self._last = self._row, self._word + count - 1
        self.since = last + 1
        self.written = write(self.bank, self.since) if write else self.since
        self._move(first, count, moved)
        self._word += count
        self._offset += count * ins.row_step
        # A beat may come in while the window before it is packed.
        self._cycle = last if self._offset >= self._beat else last + 1
        if self._word == ins.words:
            self._word = 0
            self._row += 1
            self._begun = False
            self._cycle = last + 1

    def _move(self, first: int, count: int, moved: Moved | None) -> None:
        """Count cycles, but none twice."""
        if first > self._moved:
            self._moved = first + count - 1
            if moved:
                moved(first, count)
