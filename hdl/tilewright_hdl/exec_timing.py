# SPDX-License-Identifier: Apache-2.0
"""When the compute engine does what: a recurrence over instructions, passes and vectors. No Amaranth here."""

from .config import AcceleratorConfig
from .timing import exec_drain

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
        Cycle from which on the engine takes the next instruction; valid once all passes have been begun.
    stall : int
        Cycles with ``stall`` so far.
    """

    def __init__(self, config: AcceleratorConfig):
        self._rows = config.array.rows
        self._drain = exec_drain(config)
        self.earliest = 0
        self.ready = 0
        self.stall = 0
        self._transferred = -1
        self._first = -1
        self._last = -1
        self._taken = -1
        self._moved = -1
        self._begun = True

    def transfer(self, offered: int) -> int:
        """Take an instruction that is offered from the cycle ``offered`` on; return the cycle of the transfer."""
        self._transferred = max(offered, self.ready)
        return self._transferred

    def begin_pass(self) -> None:
        """Load the weights of the next pass, and go over to its vectors as soon as they and the array allow it."""
        # The shadow registers are free in the cycle after the swap, the pass is known in that after the transfer.
        loaded = max(self._first, self._transferred) + self._rows
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
        if self._begun:
            self._first = cycle
            self._begun = False
        self._last = cycle + vectors - 1
        if vectors > 1:
            self._moved = self._last - 1
        self.earliest = self._last + 1

    def issue_passes(self, passes: int, vectors: int) -> None:
        """Begin ``passes`` passes of ``vectors`` vectors none of whose reads has to wait: all of an instruction.

        Two passes are followed; from then on each repeats the one before it, ``exec_pass`` cycles later.
        """
        for _ in range(min(passes, 2)):
            self.begin_pass()
            self.issue(self.earliest, vectors)
        repeated = max(0, passes - 2)
        time = repeated * max(vectors, self._rows)
        self._first += time
        self._last += time
        self._taken += time
        self._moved += time
        self.earliest += time
        self.ready += time
        self.stall += repeated * max(0, self._rows - vectors)

    @property
    def done(self) -> int:
        """Cycle of ``done`` of the instruction whose vectors have all been issued."""
        return self._last + self._drain
