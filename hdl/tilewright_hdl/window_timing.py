# SPDX-License-Identifier: Apache-2.0
"""Cycles in which windows are packed; :class:`~.window_packer.WindowPacker` keeps to them. Nothing imports Amaranth.

A row begins when its first beat is offered and all words before it are written. From then on the buffer holds
:func:`window_beats` beats, at first padding; beats come in at its end, those of the row and then padding. The window
stands ``offset`` bytes from the begin of the buffer. Below one beat, it is packed in each cycle in which the register
for words is free; else a beat comes in, already in the cycle of the packing if that moves the window beyond the first
beat. The last window of a row waits for the row's last beat, which may be behind all windows.
"""

from collections.abc import Callable
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


class _Burst(NamedTuple):
    """What a burst does where nothing is in the way of the writes; cycles count from the first that matters."""

    offset: int
    word: int
    beats: int
    cycle: int
    since: int
    written: int
    moved: int
    runs: list[tuple[int, int]]
    last: int
    free: int


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
        self._known: dict[tuple[int, ...], _Burst] = {}

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
        self.drift(moved, write)
        self._cycle = max(self._cycle, first)
        if write:
            return self._walk(first, beats, period, moved, write)
        now = self._cycle
        word = self._word
        key = (self._begun, self._offset, word, self._beats, max(0, self.written - now), self._moved >= now,
               now - first, beats, period)
        if key not in self._known:
            runs: list[tuple[int, int]] = []
            last, free = self._walk(first, beats, period, lambda begin, count: _extend(runs, begin - now, count), None)
            self._known[key] = _Burst(
                self._offset, self._word, self._beats, self._cycle - now, self.since - now, self.written - now,
                self._moved - now, runs, last - now, free - now)
        known = self._known[key]
        self._begun, self._offset, self._word, self._beats = True, known.offset, known.word, known.beats
        self._cycle = now + known.cycle
        if known.word != word:
            self._last = self._row, known.word - 1
            self.since, self.written = now + known.since, now + known.written
        if known.runs:
            self._moved = now + known.moved
        if moved:
            for begin, count in known.runs:
                moved(now + begin, count)
        return now + known.last, now + known.free

    def _walk(
        self, first: int, beats: int, period: int, moved: Moved | None, write: Write | None
    ) -> tuple[int, int]:
        """:meth:`take_burst`, beat by beat."""
        taken = free = first
        for _ in range(beats):
            offered = free
            taken = self._take(offered, moved, write)
            free = max(taken + 1, offered + period)
        return taken, free

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
