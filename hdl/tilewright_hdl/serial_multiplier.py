# SPDX-License-Identifier: Apache-2.0
"""Multiplier that takes its factor a few bits at a time."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import PostConfig
from .timing import multiply_delay, serial_bits

__all__ = ["SerialMultiplier"]


class SerialMultiplier(wiring.Component):
    """Product of a signed value and an unsigned factor, one adder for all of its bits.

    It stands in the place of :class:`~.multiplier.Multiplier`; operands must be ``post.interval`` cycles apart. There
    is no reset.

    Latency
    -------
    ``timing.multiply_delay(post)`` registers: the operands, and a step for each ``timing.serial_bits(post)`` bits of
    the factor. The product stays until the next operands are there.

    Parameters
    ----------
    post : PostConfig
        ``interval``, at least 2, and width of the factor.
    value_bits : int

    Members
    -------
    enable : ``In(timing.multiply_delay(post))``
        Bit 0 loads the operands, each other one does a step.
    value : ``In(signed(value_bits))``
    factor : ``In(post.multiplier_bits)``
    product : ``Out(signed(value_bits + post.multiplier_bits))``
    """

    enable: Signal
    value: Signal
    factor: Signal
    product: Signal

    def __init__(self, post: PostConfig, value_bits: int):
        if post.interval < 2:
            raise ValueError(f"post.interval must be at least 2 for a serial multiplier, not {post.interval!r}")
        self._post = post
        self._value_bits = value_bits
        super().__init__({
            "enable": In(multiply_delay(post)),
            "value": In(signed(value_bits)),
            "factor": In(post.multiplier_bits),
            "product": Out(signed(value_bits + post.multiplier_bits)),
        })

    @property
    def post(self) -> PostConfig:
        return self._post

    @property
    def value_bits(self) -> int:
        return self._value_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()

        bits, steps = serial_bits(self.post), len(self.enable) - 1
        value = Signal.like(self.value, reset_less=True)
        high = Signal.like(self.value, reset_less=True)
        # What is left of the factor, and above it what is there of the product.
        low = Signal(steps * bits, reset_less=True)
        total = Signal(signed(self.value_bits + bits))
        m.d.comb += total.eq(high + _times(value, low[:bits]))
        with m.If(self.enable[0]):
            m.d.sync += [value.eq(self.value), low.eq(self.factor), high.eq(0)]
        with m.Elif(self.enable[1:].any()):
            m.d.sync += Cat(low, high).eq(Cat(low[bits:], total))
        m.d.comb += self.product.eq(Cat(low, high)[: len(self.product)])

        return m


def _times(value: Value, factor: Value) -> Value:
    """Product with a short factor, by addition."""
    terms = [Mux(bit, Cat(Const(0, place), value).as_signed(), 0) for place, bit in enumerate(factor)]
    product: Value = sum(terms[1:], terms[0])
    return product
