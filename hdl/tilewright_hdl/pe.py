# SPDX-License-Identifier: Apache-2.0
"""Processing element."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .pe_multiplier import MultiplierLane

__all__ = ["PE"]


class PE(wiring.Component):
    """Multiply-accumulate cell of a weight-stationary array, with a second weight behind the one in use.

    In each cycle it adds ``activation * weight`` to the sum from above and hands the result down. In a cycle with
    ``swap`` the weight in the shadow register is used, and stays in use from then on. In a cycle with ``load`` the
    shadow register takes the word from above; both in one cycle use the old shadow and load the new one.

    In a cycle with ``slide`` the word in the shadow register is the activation, and the word that was the activation in
    the cycle before is handed down in place of the shadow register: the two registers make a delay line of the column.

    The multiplier stands beside it, as some multipliers serve two elements; it also holds the weight in use.

    Latency
    -------
    One cycle, from each input to its output; from an activation to the sum, the multiplier's beside it.

    Parameters
    ----------
    sum_bits : int
        Width of the partial sums, wide enough that they never overflow.
    depthwise : bool
        Without it ``slide`` is 0 in all cycles, and ``slide_out`` too.
    shadow : bool
        Without it the weight of a swap is ``weight``; ``load``, and what goes on to neighbours of it, is not used.

    Members
    -------
    activation, swap, load, slide : ``In(signed(8))``, ``In(1)``, ``In(1)``, ``In(1)``
        From the left.
    activation_out, swap_out, load_out, slide_out : ``Out(signed(8))``, ``Out(1)``, ``Out(1)``, ``Out(1)``
        To the right.
    weight, sum : ``In(signed(8))``, ``In(signed(sum_bits))``
        From above.
    weight_out, sum_out : ``Out(signed(8))``, ``Out(signed(sum_bits))``
        Downwards; ``weight_out`` is the shadow register, but with ``slide`` it is ``activation_out``.
    multiplier : ``Out(MultiplierLane(sum_bits))``
    """

    activation: Signal
    swap: Signal
    load: Signal
    slide: Signal
    activation_out: Signal
    swap_out: Signal
    load_out: Signal
    slide_out: Signal
    weight: Signal
    sum: Signal
    weight_out: Signal
    sum_out: Signal
    multiplier: Any

    def __init__(self, sum_bits: int, depthwise: bool, shadow: bool = True):
        if isinstance(sum_bits, bool) or not isinstance(sum_bits, int) or sum_bits < 16:
            raise ValueError(f"sum_bits must be an integer of at least 16, not {sum_bits!r}")
        self._sum_bits = sum_bits
        self._depthwise = depthwise
        self._shadow = shadow
        super().__init__({
            "activation": In(signed(8)),
            "swap": In(1),
            "load": In(1),
            "slide": In(1),
            "activation_out": Out(signed(8)),
            "swap_out": Out(1),
            "load_out": Out(1),
            "slide_out": Out(1),
            "weight": In(signed(8)),
            "sum": In(signed(sum_bits)),
            "weight_out": Out(signed(8)),
            "sum_out": Out(signed(sum_bits)),
            "multiplier": Out(MultiplierLane(sum_bits)),
        })

    @property
    def sum_bits(self) -> int:
        return self._sum_bits

    @property
    def depthwise(self) -> bool:
        return self._depthwise

    @property
    def shadow(self) -> bool:
        return self._shadow

    def elaborate(self, platform: object) -> Module:
        m = Module()

        factor = self.multiplier.factor
        m.d.comb += [
            self.multiplier.swap.eq(self.swap),
            self.multiplier.sum.eq(self.sum),
            self.activation_out.eq(self.multiplier.factor_out),
            self.sum_out.eq(self.multiplier.sum_out),
        ]
        m.d.sync += self.swap_out.eq(self.swap)
        if not self._shadow:
            m.d.comb += [factor.eq(self.activation), self.multiplier.weight.eq(self.weight)]
            return m

        shadow = Signal(signed(8))
        m.d.comb += self.multiplier.weight.eq(shadow)
        if self._depthwise:
            m.d.comb += [
                factor.eq(Mux(self.slide, shadow, self.activation)),
                self.weight_out.eq(Mux(self.slide, self.activation_out, shadow)),
            ]
            m.d.sync += self.slide_out.eq(self.slide)
        else:
            m.d.comb += [factor.eq(self.activation), self.weight_out.eq(shadow)]
        m.d.sync += self.load_out.eq(self.load)
        with m.If(self.load):
            m.d.sync += shadow.eq(self.weight)

        return m
