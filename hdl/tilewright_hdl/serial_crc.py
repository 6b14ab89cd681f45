# SPDX-License-Identifier: Apache-2.0
"""The CRC of the host link, bit by bit."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .link_format import CRC_POLYNOMIAL

__all__ = ["SerialCrc"]

_BITS = 32


class SerialCrc(wiring.Component):
    """CRC-32 of a stream of bytes, as ``zlib.crc32``: the value is ``~state``.

    Latency
    -------
    A byte takes nine cycles; then ``i.ready`` is high and ``state`` holds all bytes that were taken.

    Members
    -------
    clear : ``In(1)``
        Begin anew. Only while ``i.ready``, and not with a byte.
    i : ``In(stream.Signature(8))``
    drain : ``In(1)``
        With a byte: shift ``state`` down by eight bits instead, so that its bytes can be taken from the lowest.
    state : ``Out(32)``
    """

    i: stream.Interface

    def __init__(self) -> None:
        super().__init__({
            "clear": In(1), "i": In(stream.Signature(8)), "drain": In(1), "state": Out(_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(_BITS, reset_less=True)
        m.d.comb += self.state.eq(state)
        byte = Signal(8, reset_less=True)
        left = Signal(4)
        draining = Signal(reset_less=True)
        feedback = Signal()
        m.d.comb += [
            self.i.ready.eq(left == 0),
            feedback.eq((self.state[0] ^ byte[0]) & ~draining),
        ]
        with m.If(~self.i.ready):
            m.d.sync += [byte.eq(byte[1:]), left.eq(left - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [byte.eq(self.i.payload), draining.eq(self.drain), left.eq(8)]
        with m.If(self.clear):
            m.d.sync += state.eq((1 << _BITS) - 1)
        with m.Elif(~self.i.ready):
            m.d.sync += state.eq(Cat(self.state[1:], Const(0, 1)) ^ Mux(feedback, CRC_POLYNOMIAL, 0))
        return m
