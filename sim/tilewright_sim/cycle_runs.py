# SPDX-License-Identifier: Apache-2.0
"""Sets of cycles, as runs that repeat, and levels."""

from collections import deque
from functools import lru_cache

__all__ = ["NEVER", "CycleRuns", "Level", "set_bits"]

NEVER = 1 << 62
"""Later than any cycle."""


@lru_cache(maxsize=1 << 16)
def set_bits(mask: int) -> tuple[int, ...]:
    """Numbers of the bits that are set."""
    return tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


class CycleRuns:
    """Counts the cycles of a set that lie before a given one, where both only go forward in time."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int, int, int]] = deque()
        self._passed = 0

    def add(self, first: int, length: int, *, period: int = 0, count: int = 1) -> None:
        """Add ``count`` runs of ``length`` cycles, ``period`` cycles apart, none before those of an earlier call."""
        if not length or not count:
            return
        if self._runs:
            begin, before, step, repeated = self._runs[-1]
            if count == 1 and repeated == 1 and begin + before == first:
                self._runs[-1] = (begin, before + length, 0, 1)
                return
            if period == step and length == before and begin + repeated * period == first:
                self._runs[-1] = (begin, length, period, repeated + count)
                return
        self._runs.append((first, length, period, count))

    def extend(self, other: "CycleRuns") -> None:
        """Take over the cycles of another set, none before those of this one; the other must not be used any more."""
        self._passed += other._passed
        self._runs.extend(other._runs)

    def before(self, cycle: int) -> int:
        """Cycles of the set before ``cycle``, which must not go back from call to call."""
        runs = self._runs
        while runs:
            first, length, period, count = runs[0]
            if first + (count - 1) * period + length > cycle:
                break
            self._passed += length * count
            runs.popleft()
        total = self._passed
        for first, length, period, count in runs:
            if first >= cycle:
                break
            whole = min(count - 1, (cycle - first) // period) if count > 1 else 0
            total += whole * length + min(length, cycle - first - whole * period)
        return total


class Level:
    """A level that rises in the cycle after an event and falls in the cycle after another; its high cycles, counted."""

    def __init__(self) -> None:
        self._count = 0
        self._risen = 0
        self._fallen = -1
        self._high = 0

    def up(self, cycle: int) -> None:
        """One more reason to be high."""
        if not self._high:
            self._risen = cycle
        self._high += 1

    def down(self, cycle: int) -> None:
        """One reason less."""
        self._high -= 1
        if not self._high:
            self._count += cycle - self._risen
            self._fallen = cycle

    def before(self, cycle: int) -> int:
        """High cycles before ``cycle``, which is not before the last event."""
        if self._high and cycle > self._risen:
            return self._count + cycle - 1 - self._risen
        return self._count - (self._fallen == cycle)
