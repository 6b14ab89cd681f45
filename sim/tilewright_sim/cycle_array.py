# SPDX-License-Identifier: Apache-2.0
"""Times of the array: when passes begin, over the end of an instruction as well."""

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Exec

__all__ = ["Computing"]


class Computing:
    """The ``EXEC`` engine.

    A pass may begin when the vectors of the pass before have gone in, and not before its weights are in place, ``rows``
    cycles after the pass before began: ``s[p + 1] = max(s[p] + vectors, s[p] + rows)``.
    """

    def __init__(self, config: AcceleratorConfig):
        self._rows = config.array.rows
        self._drain = config.array.rows + config.array.columns + 6
        self._begun = -config.array.rows
        """Cycle in which the last pass began."""
        self._free = 0
        """Cycle after the last vector."""

    def start(self, ins: Exec, cycle: int) -> tuple[int, int]:
        """Take an instruction; gives the cycles in which the engine is ready for the next one, and of ``done``."""
        rows, vectors = self._rows, ins.vectors
        first = max(cycle + 2 + rows, self._begun + rows, self._free)
        interval = max(vectors, rows)
        self._begun = first + (ins.passes - 1) * interval
        self._free = self._begun + vectors
        return self._begun, self._free + self._drain

    def stalled_before(self, cycle: int) -> int:
        """Cycles before ``cycle`` in which the array waited for weights."""
        return 0
