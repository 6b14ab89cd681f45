# SPDX-License-Identifier: Apache-2.0
"""State machines with a flip-flop for each state."""

from collections.abc import Iterable
from functools import reduce
from operator import or_

from amaranth import Module, Signal, Value

__all__ = ["OneHot"]


class OneHot:
    """A machine that is in one of its states, of which some have ways to others.

    Where there are many states, and outputs that many of them share, this takes less logic than a number that must be
    decoded everywhere.

    Parameters
    ----------
    names : iterable of str
        Of the states; it begins in the first.
    """

    def __init__(self, names: Iterable[str]):
        self._states = {name: Signal(name=f"in_{name.lower()}", init=not place) for place, name in enumerate(names)}

    def __getitem__(self, name: str) -> Signal:
        """Whether it is in a state."""
        return self._states[name]

    def any(self, *names: str) -> Value:
        """Whether it is in one of some states."""
        return reduce(or_, (self[name] for name in names))

    def connect(self, m: Module, ways: dict[str, list[tuple[Value, str]]]) -> None:
        """Add what goes on: in each state the first way whose condition holds is taken; if none does, it stays."""
        arrivals: dict[str, list[Value]] = {name: [] for name in self._states}
        for name, state in self._states.items():
            stays: Value = state
            for condition, target in ways[name]:
                arrivals[target].append(stays & condition)
                stays = stays & ~condition
            arrivals[name].append(stays)
        m.d.sync += [self[name].eq(reduce(or_, found)) for name, found in arrivals.items()]
