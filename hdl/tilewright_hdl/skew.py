# SPDX-License-Identifier: Apache-2.0
"""Skew: from a word at once to a diagonal wave."""

from typing import Any

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skew"]


class Skew(wiring.Component):
    """Delay lane ``i`` of a word by ``i // group`` cycles.

    Parameters
    ----------
    shape : :class:`Shape`
        Shape of a lane.
    lanes : int
    group : int
        Neighbouring lanes that stay together.

    Members
    -------
    i, o : ``In(ArrayLayout(shape, lanes))``, ``Out(ArrayLayout(shape, lanes))``
        The first group is not delayed at all.
    """

    i: Any
    o: Any

    def __init__(self, shape: Shape, lanes: int, group: int = 1):
        self._shape = shape
        self._lanes = lanes
        self._group = group
        word = data.ArrayLayout(shape, lanes)
        super().__init__({"i": In(word), "o": Out(word)})

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def lanes(self) -> int:
        return self._lanes

    @property
    def group(self) -> int:
        return self._group

    def elaborate(self, platform: object) -> Module:
        m = Module()

        for lane in range(self._lanes):
            wave = self.i[lane]
            for cycle in range(lane // self._group):
                # The lanes that are left over shrink with each cycle, so this is the upper triangle.
                delayed = Signal(self._shape, name=f"lane{lane}_{cycle}", reset_less=True)
                m.d.sync += delayed.eq(wave)
                wave = delayed
            m.d.comb += self.o[lane].eq(wave)

        return m
