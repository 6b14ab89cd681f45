# SPDX-License-Identifier: Apache-2.0
"""Counting tokens that order the engines."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig
from .isa import ENGINES

__all__ = ["EngineMasks", "Semaphores"]


class EngineMasks(data.ArrayLayout):
    """For each engine, one bit for each engine."""

    def __init__(self) -> None:
        super().__init__(len(ENGINES), len(ENGINES))


class Semaphores(wiring.Component):
    """One counter of tokens for each ordered pair of engines.

    Giving and taking of one token in the same cycle leaves the counter as it is. The owner of ``give`` looks at
    ``room`` first, and that of ``take`` at ``available``.

    Latency
    -------
    A token given in cycle t can be taken in cycle t + 1, and the room of a token taken in cycle t be used then.

    Parameters
    ----------
    config : :class:`~.config.AcceleratorConfig`
        ``semaphore_bits`` is the width of a counter.

    Members
    -------
    available : ``Out(EngineMasks())``
        ``available[e][s]``: a token from engine ``s`` is there for engine ``e``.
    room : ``Out(EngineMasks())``
        ``room[e][d]``: engine ``e`` can give a token to engine ``d``.
    take : ``In(EngineMasks())``
        ``take[e][s]``: engine ``e`` takes a token from engine ``s`` in this cycle.
    give : ``In(EngineMasks())``
        ``give[e][d]``: engine ``e`` gives a token to engine ``d`` in this cycle.
    """

    available: data.View
    room: data.View
    take: data.View
    give: data.View

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "available": Out(EngineMasks()),
            "room": Out(EngineMasks()),
            "take": In(EngineMasks()),
            "give": In(EngineMasks()),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for source in ENGINES:
            for target in ENGINES:
                if source == target:
                    continue
                count = Signal(self.config.semaphore_bits, name=f"{source.name}_to_{target.name}".lower())
                give = self.give[source][target]
                take = self.take[target][source]
                m.d.comb += [
                    self.available[target][source].eq(count.any()),
                    self.room[source][target].eq(~count.all()),
                ]
                with m.If(give ^ take):
                    # One adder for both ways.
                    m.d.sync += count.eq(count + Mux(give, 1, -1))
        return m
