# SPDX-License-Identifier: Apache-2.0
"""Pipelined multiplier."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .timing import MULTIPLY

__all__ = ["Multiplier"]


class Multiplier(wiring.Component):
    """Product of a signed value and an unsigned factor.

    A register loads only in a cycle in which its bit of ``enable`` is set, so a pipeline that carries nothing stands
    still. There is no reset.

    Latency
    -------
    ``timing.MULTIPLY`` registers: the operands, the two partial products (the factor is cut in halves, which fits the
    multipliers of FPGAs), and their sum.

    Parameters
    ----------
    value_bits, factor_bits : int
        At least 1 and 2.

    Members
    -------
    enable : ``In(timing.MULTIPLY)``
        Bit ``i`` loads register ``i``.
    value : ``In(signed(value_bits))``
    factor : ``In(factor_bits)``
    product : ``Out(signed(value_bits + factor_bits))``
    """

    enable: Signal
    value: Signal
    factor: Signal
    product: Signal

    delay = MULTIPLY
    """Registers."""

    def __init__(self, value_bits: int, factor_bits: int):
        if value_bits < 1 or factor_bits < 2:
            raise ValueError(f"value_bits must be at least 1 and factor_bits at least 2, "
                             f"not {value_bits!r} and {factor_bits!r}")
        self._value_bits = value_bits
        self._factor_bits = factor_bits
        super().__init__({
            "enable": In(self.delay),
            "value": In(signed(value_bits)),
            "factor": In(factor_bits),
            "product": Out(signed(value_bits + factor_bits)),
        })

    @property
    def value_bits(self) -> int:
        return self._value_bits

    @property
    def factor_bits(self) -> int:
        return self._factor_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()

        half = (self.factor_bits + 1) // 2
        value = Signal.like(self.value, reset_less=True)
        factor = Signal.like(self.factor, reset_less=True)
        low = Signal(signed(self.value_bits + half), reset_less=True)
        high = Signal(signed(self.value_bits + self.factor_bits - half), reset_less=True)
        product = Signal.like(self.product, reset_less=True)

        with m.If(self.enable[0]):
            m.d.sync += [value.eq(self.value), factor.eq(self.factor)]
        with m.If(self.enable[1]):
            m.d.sync += [low.eq(value * factor[:half]), high.eq(value * factor[half:])]
        with m.If(self.enable[2]):
            m.d.sync += product.eq(Cat(low[:half], high + low[half:].as_signed()))
        m.d.comb += self.product.eq(product)

        return m
