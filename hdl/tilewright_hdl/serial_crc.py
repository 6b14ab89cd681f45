# SPDX-License-Identifier: Apache-2.0
"""The CRC of the host link, bit by bit."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .link_format import CRC_BYTES, CRC_POLYNOMIAL

__all__ = ["SerialCrc"]

_BITS = 8 * CRC_BYTES


class SerialCrc(wiring.Component):
    """CRC-32 of bits, the lowest of each byte first, as ``zlib.crc32``: the value is ``~state``.

    Latency
    -------
    A bit counts in ``state`` from the next cycle on.

    Members
    -------
    clear : ``In(1)``
        Begin anew; a bit of this cycle is lost.
    valid, value : ``In(1)``
        A bit, in any cycle.
    drain : ``In(1)``
        With ``valid``: ``value`` does not count; ``state`` is shifted down instead, so that all of it can be taken.
    state : ``Out(32)``
    """

    def __init__(self) -> None:
        super().__init__({"clear": In(1), "valid": In(1), "value": In(1), "drain": In(1), "state": Out(_BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(_BITS, reset_less=True)
        feedback = Signal()
        m.d.comb += [self.state.eq(state), feedback.eq((state[0] ^ self.value) & ~self.drain)]
        with m.If(self.clear):
            m.d.sync += state.eq((1 << _BITS) - 1)
        with m.Elif(self.valid):
            m.d.sync += state.eq(Cat(state[1:], Const(0, 1)) ^ Mux(feedback, CRC_POLYNOMIAL, 0))
        return m
