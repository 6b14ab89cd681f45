# SPDX-License-Identifier: Apache-2.0
"""From an accumulator to an int8, a few bits in each cycle, lowest first.

Numbers run through as streams of digits: the sum of accumulator and bias, its product with the multiplier, and the part
of the product from bit ``shift`` on, to which the zero point is added. All of them are in two's complement with the
sign repeated for as long as it takes. So no digit is special, the last one tells the sign, and the comparisons with
both clamps are those of whole numbers: nothing has to saturate on the way. The highest bit that is rounded away comes
just before the first that counts; it is the carry into the sum with the zero point.

``shift`` need not be a multiple of a digit's bits. The sum of accumulator and bias is shifted to the left by what is
missing.
"""

from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import ACCUMULATOR_BITS, AcceleratorConfig
from .numerics import INT8_MAX, INT8_MIN, SHIFT_BITS
from .timing import SERIAL_PRODUCT, serial_digit

__all__ = ["SerialRequantize"]

_INT8_BITS = (INT8_MAX - INT8_MIN).bit_length()


class SerialRequantize(wiring.Component):
    """``clamp(rescale(accumulator + bias, multiplier, shift) + zero_point, low, high)``, with the rule ``SINGLE``.

    The hardware of :meth:`.numerics.Requantizer.compute`, ``timing.serial_digit(config.post)`` bits a cycle. It copies
    no operand: all of them must be steady while ``place`` counts. There is no reset.

    Latency
    -------
    The result stands from ``timing.serial_cycles`` cycles after the one with ``clear`` on until the next ``clear``.

    Parameters
    ----------
    config : AcceleratorConfig
        With ``timing.serial_digit(config.post)`` not 0.

    Members
    -------
    clear : ``In(1)``
        Begin anew in the next cycle.
    place : ``In(range(config.post.interval))``
        0 in the cycle after ``clear``, and one more in each cycle.
    accumulator, bias : ``In(signed(32))``
    multiplier : ``In(config.post.multiplier_bits)``
    shift : ``In(SHIFT_BITS)``
        From ``MIN_SHIFT`` to ``MAX_SHIFT``. With 0 and 63 all of the product is shifted out.
    zero_point, low, high : ``In(signed(8))``
        ``low <= high``.
    result : ``Out(signed(8))``
    clamped : ``Out(1)``
        The result differs from the sum before the clamp.
    """

    reset_less = True

    clear: Signal
    place: Signal
    accumulator: Signal
    bias: Signal
    multiplier: Signal
    shift: Signal
    zero_point: Signal
    low: Signal
    high: Signal
    result: Signal
    clamped: Signal

    def __init__(self, config: AcceleratorConfig):
        post = config.post
        if not serial_digit(post):
            raise ValueError(f"post must have an interval that is long enough for serial lanes, not {post!r}")
        self._config = config
        int8 = signed(_INT8_BITS)
        super().__init__({
            "clear": In(1),
            "place": In(range(post.interval)),
            "accumulator": In(signed(ACCUMULATOR_BITS)),
            "bias": In(signed(ACCUMULATOR_BITS)),
            "multiplier": In(post.multiplier_bits),
            "shift": In(SHIFT_BITS),
            "zero_point": In(int8),
            "low": In(int8),
            "high": In(int8),
            "result": Out(int8),
            "clamped": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product = self._product(m, self._factor(m))
        self._finish(m, product)
        return m

    def _register(self, m: Module, name: str, following: Value) -> Any:
        """Register that ``clear`` sets to 0."""
        register = Signal(len(following), reset_less=True, name=name)
        m.d.sync += register.eq(Mux(self.clear, 0, following))
        return register

    def _factor(self, m: Module) -> Value:
        """Digit ``place - 1`` of the sum of accumulator and bias, shifted to the left by what ``shift`` lacks."""
        bits = serial_digit(self.config.post)
        digits = len(self.accumulator) // bits
        index = self.place[: (digits - 1).bit_length()]
        carry, sign = Signal(reset_less=True), Signal(reset_less=True)
        total, digit = Signal(bits + 1), Signal(bits)
        m.d.comb += [
            total.eq(_digits(self.accumulator, bits)[index] + _digits(self.bias, bits)[index] + carry),
            digit.eq(Mux(self.place < digits, total[:bits], sign.replicate(bits))),
        ]
        m.d.sync += [carry.eq(total[-1] & ~self.clear), sign.eq(digit[-1])]
        before = self._register(m, "before", digit)
        missing = (-self.shift)[: bits.bit_length() - 1]
        shifted = (Cat(before, digit) << missing)[bits : 2 * bits] if bits > 1 else digit
        return self._register(m, "factor", shifted)

    def _product(self, m: Module, factor: Value) -> Value:
        """Digit ``place - SERIAL_PRODUCT`` of the product: shift and add, the lowest bits leave."""
        high = Signal(len(self.multiplier), reset_less=True)
        rest: Value = high
        leaving = []
        for bit in factor:
            total = Signal(len(rest) + 1)
            m.d.comb += total.eq(Mux(bit, rest + self.multiplier, rest))
            leaving.append(total[0])
            rest = total[1:]
        m.d.sync += high.eq(Mux(self.clear, 0, rest))
        product = Signal(len(factor), reset_less=True)
        m.d.sync += product.eq(Cat(leaving))
        return product

    def _finish(self, m: Module, product: Value) -> None:
        """Round, add the zero point, and compare with both clamps."""
        bits = len(product)
        kept = _INT8_BITS // bits
        # Digits that count, as far as those of an int8; before them the first one is made over and over.
        count = Signal(range(kept + 1), reset_less=True)
        first, beyond = Signal(reset_less=True), count[-1]
        # A shift of 0 is one of 64, as in pipelines.
        skipped = ((self.shift - 1)[:SHIFT_BITS] >> (bits.bit_length() - 1)) + 1
        # A cycle ahead, as the shift comes late, out of a memory; its place is at least the third.
        m.d.sync += first.eq(self.place == skipped + (SERIAL_PRODUCT - 1))
        with m.If(self.clear):
            m.d.sync += count.eq(0)
        with m.Elif((first | (count != 0)) & ~beyond):
            m.d.sync += count.eq(count + 1)

        def digit(value: Value) -> Value:
            """The digit of a steady int8 that belongs to the product's."""
            return Mux(beyond, value[-1].replicate(bits), _digits(value, bits)[count[:-1]])

        below, carry, above, under = (Signal(reset_less=True, name=n) for n in ("below", "carry", "above", "under"))
        value, sign = Signal(_INT8_BITS, reset_less=True), Signal(reset_less=True)
        total = Signal(bits + 1)
        low, high = Signal(bits), Signal(bits)
        m.d.comb += [
            total.eq(product + digit(self.zero_point) + Mux(first, below, carry)),
            low.eq(digit(self.low)),
            high.eq(digit(self.high)),
        ]
        here = total[:bits]
        m.d.sync += [
            below.eq(product[-1]),
            carry.eq(total[-1]),
            sign.eq(here[-1]),
            # The carry out of x + ~y + c says whether x + c is more than y.
            above.eq((here + ~high[:bits] + (above & ~first))[bits]),
            under.eq((low + ~here + (under & ~first))[bits]),
        ]
        with m.If(~beyond):
            m.d.sync += value.eq(Cat(value, here)[bits:])

        over = Mux(sign == self.high[-1], above, ~sign)
        less = Mux(sign == self.low[-1], under, sign)
        m.d.comb += [
            self.result.eq(Mux(over, self.high, Mux(less, self.low, value))),
            self.clamped.eq(over | less),
        ]


def _digits(value: Value, bits: int) -> Any:
    """Digits of a number, lowest first."""
    return Array(value[at : at + bits] for at in range(0, len(value), bits))
