# SPDX-License-Identifier: Apache-2.0
"""Nested loops with affine addresses.

Every tracked value is ``start + sum over the levels of index * step``, but nothing is multiplied. For each level that
has a step of its own, a register holds the value as it was when all levels inside of that one began anew. When a level
advances, its register plus its step is the new value, and becomes the register of all levels inside. The innermost
such register is the value itself.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LoopNest"]


class LoopNest(wiring.Component):
    """Run-time loops, one inside the other, one step a cycle with no bubble when a level wraps.

    In a cycle with ``load``, a nest begins: from the next cycle on, ``value`` is ``start`` and every level is at its
    first index. In a cycle with ``advance`` the innermost level that is not at its last index goes on, and those
    inside of it begin anew. At the last combination (``done``) there is nothing left to advance to; the next nest may
    be loaded in the cycle in which the last combination is used. ``load`` wins over ``advance``.

    In a cycle with ``advance`` and ``extra`` the values step as by the innermost level, but its index stays; meanwhile
    it is not at its last index.

    ``start`` and ``first_count`` are taken with ``load``, but ``start`` must stay with ``held``. ``count`` must be the
    same from the cycle after ``load`` until the last ``advance``, and a ``step`` must be there in the cycles in which
    its level goes on.

    Parameters
    ----------
    levels : mapping of str to int
        Name and width of the count of each level, outermost first.
    values : mapping of str to (shape, mapping of str to shape)
        For each tracked value its shape, in which it wraps, and for each level that moves it the shape of the step. A
        level that is not named does not move it, and costs nothing.
    held : bool
        Whether ``start`` holds like ``count``, so that no register has to.

    Members
    -------
    load, advance, extra : ``In(1)``
    first_count, count : ``In(StructLayout({level: bits}))``
        Repetitions of each level, at least 1.
    start : ``In(StructLayout({value: shape}))``
    step : ``In(StructLayout({value_level: shape}))``
        Step of a value at a level, for example ``step.address_y``.
    value : ``Out(StructLayout({value: shape}))``
    first, last : ``Out(StructLayout({level: 1}))``
        Level is at its first index, at its last index.
    done : ``Out(1)``
        All levels are at their last index.
    """

    load: Signal
    advance: Signal
    extra: Signal
    first_count: Any
    count: Any
    start: Any
    step: Any
    value: Any
    first: Any
    last: Any
    done: Signal

    def __init__(
        self, levels: Mapping[str, int], values: Mapping[str, tuple[Shape, Mapping[str, Shape]]], *, held: bool = False
    ):
        self._held = held
        for name, (_, steps) in values.items():
            unknown = sorted(set(steps) - set(levels))
            if unknown:
                raise ValueError(f"Steps of value {name!r} must be at levels {', '.join(levels)}, "
                                 f"not at {', '.join(unknown)}")
        self._levels = dict(levels)
        self._values = {
            # Outermost first, like the levels.
            name: (shape, {level: steps[level] for level in levels if level in steps})
            for name, (shape, steps) in values.items()
        }
        flags = data.StructLayout(dict.fromkeys(levels, 1))
        starts = data.StructLayout({name: shape for name, (shape, _) in self._values.items()})
        super().__init__({
            "load": In(1),
            "advance": In(1),
            "extra": In(1),
            "first_count": In(data.StructLayout(self._levels)),
            "count": In(data.StructLayout(self._levels)),
            "start": In(starts),
            "step": In(data.StructLayout({
                f"{name}_{level}": shape
                for name, (_, steps) in self._values.items() for level, shape in steps.items()
            })),
            "value": Out(starts),
            "first": Out(flags),
            "last": Out(flags),
            "done": Out(1),
        })

    @property
    def levels(self) -> dict[str, int]:
        return dict(self._levels)

    @property
    def held(self) -> bool:
        return self._held

    @property
    def values(self) -> dict[str, tuple[Shape, dict[str, Shape]]]:
        return dict(self._values)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # The one level that goes on with `advance`, if any; those inside of it begin anew. `advance` comes late, so it
        # chooses nothing: it only lets registers load.
        turn: dict[str, Signal] = {}
        inner_last: Any = Const(1)
        counted: Any = ~self.extra
        for level, bits in reversed(self._levels.items()):
            # Counted down, and whether it is at its end in a register: all that follows of that takes long enough.
            left = Signal(bits, name=f"left_{level}")
            at_first, at_last = Signal(name=f"at_first_{level}"), Signal(name=f"at_last_{level}")
            turn[level] = Signal(name=f"turn_{level}")
            m.d.comb += [
                self.first[level].eq(at_first),
                self.last[level].eq(at_last & counted),
                turn[level].eq(inner_last & ~self.last[level]),
            ]
            count = Mux(self.load, self.first_count[level], self.count[level])
            with m.If(self.load | (self.advance & inner_last & self.last[level])):
                m.d.sync += [left.eq(count), at_first.eq(1), at_last.eq(count == 1)]
            with m.Elif(self.advance & inner_last & counted):
                m.d.sync += [left.eq(left - 1), at_first.eq(0), at_last.eq(left == 2)]
            inner_last = inner_last & self.last[level]
            counted = Const(1)
        m.d.comb += self.done.eq(self.last.as_value().all())

        for name, (shape, steps) in self._values.items():
            self._track(m, name, shape, steps, turn)
        return m

    def _track(
        self, m: Module, name: str, shape: Shape, steps: Mapping[str, Shape], turn: Mapping[str, Signal]
    ) -> None:
        """Add the registers and the adder of one value."""
        base = Signal(shape, name=f"{name}_base")
        step = Signal(shape, name=f"{name}_step")
        following = Signal(shape, name=f"{name}_following")
        m.d.comb += following.eq(base + step)

        # `begun` is the value as of the beginning of the levels inside; a level without a step shares its parent's.
        begun: Value | None = None
        turned: Any = 0
        for level in self._levels:
            turned = turned | turn[level]
            moved = level in steps
            if begun is None and not moved and self._held:
                begun = self.start[name]
            elif moved or (begun is None and steps):
                begun = Signal(shape, name=f"{name}_{level}")
                with m.If(self.load):
                    m.d.sync += begun.eq(self.start[name])
                if moved:
                    with m.Elif(self.advance & turned):
                        m.d.sync += begun.eq(following)
            if begun is not None:
                with m.If(turn[level]):
                    m.d.comb += base.eq(begun)
                    if moved:
                        m.d.comb += step.eq(self.step[f"{name}_{level}"])
        if begun is None:
            begun = Signal(shape, name=name)
            with m.If(self.load):
                m.d.sync += begun.eq(self.start[name])
        m.d.comb += self.value[name].eq(begun)
