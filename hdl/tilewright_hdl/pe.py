# SPDX-License-Identifier: Apache-2.0
"""Processing element."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PE"]


class PE(wiring.Component):
    """Multiply-accumulate cell of a weight-stationary array, with a second weight behind the one in use.

    In each cycle it adds ``activation * weight`` to the sum from above and hands the result down. In a cycle with
    ``swap`` the weight in the shadow register is used, and stays in use from then on. In a cycle with ``load`` the
    shadow register takes the word from above; both in one cycle use the old shadow and load the new one.

    Latency
    -------
    One cycle, from each input to its output.

    Parameters
    ----------
    sum_bits : int
        Width of the partial sums, wide enough that they never overflow.

    Members
    -------
    activation, swap, load : ``In(signed(8))``, ``In(1)``, ``In(1)``
        From the left.
    activation_out, swap_out, load_out : ``Out(signed(8))``, ``Out(1)``, ``Out(1)``
        To the right.
    weight, sum : ``In(signed(8))``, ``In(signed(sum_bits))``
        From above.
    weight_out, sum_out : ``Out(signed(8))``, ``Out(signed(sum_bits))``
        Downwards; ``weight_out`` is the shadow register.
    """

    activation: Signal
    swap: Signal
    load: Signal
    activation_out: Signal
    swap_out: Signal
    load_out: Signal
    weight: Signal
    sum: Signal
    weight_out: Signal
    sum_out: Signal

    # Whatever stands in the registers moves out with nobody looking, so they need no reset.
    reset_less = True

    def __init__(self, sum_bits: int):
        if isinstance(sum_bits, bool) or not isinstance(sum_bits, int) or sum_bits < 16:
            raise ValueError(f"sum_bits must be an integer of at least 16, not {sum_bits!r}")
        self._sum_bits = sum_bits
        super().__init__({
            "activation": In(signed(8)),
            "swap": In(1),
            "load": In(1),
            "activation_out": Out(signed(8)),
            "swap_out": Out(1),
            "load_out": Out(1),
            "weight": In(signed(8)),
            "sum": In(signed(sum_bits)),
            "weight_out": Out(signed(8)),
            "sum_out": Out(signed(sum_bits)),
        })

    @property
    def sum_bits(self) -> int:
        return self._sum_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()

        held = Signal(signed(8))
        used = Signal(signed(8))
        product = Signal(signed(16))
        m.d.comb += [
            used.eq(Mux(self.swap, self.weight_out, held)),
            product.eq(self.activation * used),
        ]
        m.d.sync += [
            self.activation_out.eq(self.activation),
            self.swap_out.eq(self.swap),
            self.load_out.eq(self.load),
            held.eq(used),
            self.sum_out.eq(self.sum + product),
        ]
        with m.If(self.load):
            m.d.sync += self.weight_out.eq(self.weight)

        return m
