# SPDX-License-Identifier: Apache-2.0
"""What the array waits for, cycle by cycle.

Where no EXEC is under way, the next one waits: for the token that came last, or for its own code. The instruction that
gave the token was at work until then; and before it was, it waited in turn for a token, for the instruction before it
in its engine, or for its code. So a gap is walked back from its end, and each cycle of it is charged to the instruction
that was at work on the way to the next EXEC. Nothing is charged twice, and nothing is left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import ENGINES, Engine, Instruction
from tilewright_sim.machine import ProfileRecord
from tilewright_sim.tokens import walk_tokens

__all__ = ["Charge", "array_charges"]


@dataclass(frozen=True, slots=True)
class Charge:
    """Cycles of the array that an instruction accounts for.

    Members
    -------
    index : int
        The instruction: the EXEC under way, or what the next EXEC waits for.
    cycles : int
    fetch : bool
        Whether it was the instruction's code that did not come sooner.
    """

    index: int
    cycles: int
    fetch: bool = False


def array_charges(
    config: AcceleratorConfig, instructions: Sequence[Instruction], records: Sequence[ProfileRecord], total: int
) -> Iterator[Charge]:
    """Account for all cycles of a run.

    Parameters
    ----------
    config : AcceleratorConfig
    instructions : sequence of Instruction
    records : sequence of ProfileRecord
        Of all of them, in any order.
    total : int
        Cycles of the run.

    Yields
    ------
    Charge
        Their cycles add up to ``total``, if there is any instruction.
    """
    if not records:
        return
    walk = _Walk(config, instructions, records)
    reached = 0
    for index in walk.of_engine[Engine.EXEC]:
        record = walk.records[index]
        if record.start > reached:
            yield from walk.gap(index, reached, record.start)
            reached = record.start
        if record.end > reached:
            yield Charge(index, record.end - reached)
            reached = record.end
    if total > reached:
        yield from walk.tail(max(records, key=lambda r: (r.end, r.index)).index, reached, total)


class _Walk:
    def __init__(self, config: AcceleratorConfig, instructions: Sequence[Instruction],
                 records: Sequence[ProfileRecord]):
        self.records = {record.index: record for record in records}
        self.of_engine = {engine: sorted(r.index for r in records if r.engine == engine) for engine in ENGINES}
        self._givers = walk_tokens(config, instructions).givers
        self._before = {i: j for line in self.of_engine.values() for j, i in pairwise(line)}

    def gap(self, index: int, first: int, end: int) -> Iterator[Charge]:
        """Charges for the cycles from ``first`` up to ``end``, in which the instruction starts."""
        while end > first:
            cause, free = self._cause(index, first, end)
            if end > free:
                yield Charge(index, end - free, fetch=True)
            if cause is None or free <= first:
                return
            index, end = cause, max(first, min(free, self.records[cause].start))
            if free > end:
                yield Charge(index, free - end)

    def tail(self, index: int, first: int, end: int) -> Iterator[Charge]:
        """Charges for the cycles from ``first`` up to ``end``, until which the instruction is at work."""
        began = max(first, self.records[index].start)
        yield Charge(index, end - began)
        yield from self.gap(index, first, began)

    def _cause(self, index: int, first: int, end: int) -> tuple[int | None, int]:
        """What an instruction that starts at ``end`` waited for, and the cycle up to which that was at work."""
        givers = self._givers[index]
        if self.records[index].wait and givers:
            return max(givers, key=lambda i: (self.records[i].end, i)), end
        # It started as soon as it was there: its engine was not free, or its code came late.
        before = self._before.get(index)
        return before, first if before is None else max(first, min(end, self.records[before].end))
