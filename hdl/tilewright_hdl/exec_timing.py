# SPDX-License-Identifier: Apache-2.0
"""When the compute engine does what: a recurrence over instructions, passes and vectors. No Amaranth here."""

from typing import Self

from .config import AcceleratorConfig
from .isa import Exec
from .timing import exec_drain, exec_loaded, exec_pass

__all__ = ["ExecTimeline"]


class ExecTimeline:
    """The compute engine's own clockwork; the world outside comes in as the cycles of offers and grants.

    For each instruction call :meth:`transfer`, for each of its passes :meth:`begin_pass`, and for the vectors of the
    pass :meth:`issue`, in order.

    Parameters
    ----------
    config : :class:`~tilewright_hdl.config.AcceleratorConfig`

    Attributes
    ----------
    earliest : int
        Cycle in which the next vector asks for its read (padding is issued without asking). It is issued in the cycle
        of the grant.
    ready : int
        Cycle from which on the engine takes the next instruction; valid once the first vectors of all passes have
        been issued.
    stall : int
        Cycles with ``stall`` so far.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self.earliest = 0
        self.ready = 0
        self.stall = 0
        self._instruction: Exec | None = None
        self._filled = config.array.rows
        self._transferred = -1
        self._free = -config.array.rows
        self._last = -1
        self._taken = -1
        self._moved = -1
        self._begun = True

    def __copy__(self) -> Self:
        # Faster than what the module copy does by itself.
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def transfer(self, offered: int, instruction: Exec) -> int:
        """Take an instruction that is offered from the cycle ``offered`` on; return the cycle of the transfer."""
        self._instruction = instruction
        self._transferred = max(offered, self.ready)
        return self._transferred

    def begin_pass(self) -> None:
        """Load the weights of the next pass, and go over to its vectors as soon as they and the array allow it."""
        # The shadow registers are free in the cycle after the swap, or behind the pixel that follows the last one; the
        # pass is known in the cycle after the transfer.
        loaded = exec_loaded(self._config, self._current, self._filled, self._free, self._transferred)
        self._filled = self._current.tile_words(self._config.array.rows)
        self._taken = max(loaded - 2, self._moved)
        self.ready = max(self._taken + 1, loaded)
        waiting = max(self._last, self._transferred) + 1
        self.earliest = max(self._last + 1, loaded)
        self.stall += self.earliest - waiting
        self._begun = True

    def issue(self, cycle: int, vectors: int = 1) -> None:
        """Issue ``vectors`` vectors of one pass, one a cycle from ``cycle`` on; not before ``earliest``."""
        self.stall += cycle - self.earliest
        # A vector moves up to be read in the cycle in which the one before it is issued.
        self._moved = max(self._taken + 1, self._last)
        self._last = cycle + vectors - 1
        if self._current.depthwise:
            self._free = self._last + 1
        elif self._begun:
            self._free = cycle
            if self._config.array.pairs:
                self.ready = cycle + self._config.array.rows
        self._begun = False
        if vectors > 1:
            self._moved = self._last - 1
        self.earliest = self._last + 1

    def issue_passes(self, passes: int) -> None:
        """Begin ``passes`` passes of the instruction, and issue all their vectors; no read has to wait.

        Two passes are followed; from then on each repeats the one before it, ``exec_pass`` cycles later.
        """
        vectors = self._current.vectors
        for _ in range(min(passes, 2)):
            self.begin_pass()
            self.issue(self.earliest, vectors)
        repeated = max(0, passes - 2)
        period = exec_pass(self._config, vectors, self._current.taps)
        time = repeated * period
        self._free += time
        self._last += time
        self._taken += time
        self._moved += time
        self.earliest += time
        self.ready += time
        self.stall += repeated * (period - vectors)

    @property
    def done(self) -> int:
        """Cycle of ``done`` of the instruction whose vectors have all been issued."""
        return self._last + exec_drain(self._config, self._current.depthwise)

    @property
    def _current(self) -> Exec:
        assert self._instruction is not None, "transfer comes first"
        return self._instruction
