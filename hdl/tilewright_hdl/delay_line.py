# SPDX-License-Identifier: Apache-2.0
"""A value some cycles later, by way of a memory."""

from amaranth import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DelayLine"]


class DelayLine(wiring.Component):
    """What came in ``cycles`` ago, zeros at first; a reset changes nothing.

    It takes a memory and a counter instead of a register for each bit and cycle.

    Parameters
    ----------
    bits : int
    cycles : int
        At least 2.

    Members
    -------
    i : ``In(bits)``
    o : ``Out(bits)``
    """

    i: Signal
    o: Signal

    def __init__(self, bits: int, cycles: int):
        if cycles < 2:
            raise ValueError(f"cycles must be at least 2, not {cycles!r}")
        self._cycles = cycles
        super().__init__({"i": In(bits), "o": Out(bits)})

    @property
    def cycles(self) -> int:
        return self._cycles

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place = Signal(range(self.cycles), reset_less=True)
        m.submodules.words = words = memory.Memory(shape=len(self.i), depth=1 << len(place), init=[])
        write, read = words.write_port(), words.read_port()
        m.d.sync += place.eq(place + 1)
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(place),
            write.data.eq(self.i),
            # The word read is there a cycle later. It is never the one that is written.
            read.addr.eq(place - (self.cycles - 1)),
            self.o.eq(read.data),
        ]
        return m
