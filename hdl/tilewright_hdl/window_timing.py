# SPDX-License-Identifier: Apache-2.0
"""Cycles in which windows are packed; :class:`~.window_packer.WindowPacker` keeps to them. Nothing imports Amaranth.

A row begins when its first beat is offered and all words before it are written. From then on the buffer holds :func:`window_beats` beats, at first padding;
beats come in at its end, those of the row and then padding. The window stands ``offset`` bytes from the begin of
the buffer. Below one beat, it is packed in each cycle in which the register for words is free; else a beat comes in, and
in the cycle of the packing already if the window leaves the first beat in it. The last window of a row waits for the
row's last beat, which may be behind all windows.
"""

from collections.abc import Callable

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
    bank, since, written : int
        Bank of the last word that was packed, first cycle in which it may be written, and that in which it is.
    """

    def __init__(self, config: AcceleratorConfig, instruction: Load, *, written: int):
        self.bank = 0
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
        self._begun = False
        self._offset = 0
        self._beats = 0
        self._moved = -1

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
        self.bank = (ins.address + self._row * ins.stride + (self._word + count - 1) * ins.step) // self._bank_words
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
