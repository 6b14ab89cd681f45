# SPDX-License-Identifier: Apache-2.0
"""Multiplication by a real factor, in integers: the hardware of :func:`.numerics.rescale`.

Both rounding rules share one multiplier and one shifter. Let ``p`` be the product and ``s`` the shift.

``SINGLE`` is ``(p + 2**(s - 1)) >> s``, which equals ``((p >> (s - 1)) + 1) >> 1``: it is enough to shift by one bit
less, and to round the last bit away afterwards, where the number is short already. So the shifter's output is called
``twice`` here, and a result is ``(twice + 1) >> 1``.

``TFLITE_DOUBLE`` with ``s > 31`` first rounds at bit 31, ``h = (p + 2**30) >> 31``, and then rounds ``h`` by the
remaining ``s - 31`` bits, half away from zero: ``(h + 2**(s - 32) - (h < 0)) >> (s - 31)``. That is the rule ``SINGLE``
for ``(h - (h < 0)) << 31`` in place of ``p``. With ``a = p >> 30``, ``h`` is ``(a + 1) >> 1``, and ``h - 1`` is
``(a - 1) >> 1``: one adder, that goes by the sign of ``a``. The two signs differ for ``a = -1`` alone, and then both 0
and -1 in place of ``h - (h < 0)`` end as 0.
"""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .block_multiplier import BlockMultiplier
from .config import PostConfig
from .isa import RoundingCode
from .multiplier import Multiplier
from .numerics import INT8_MAX, INT8_MIN, SHIFT_BITS, Rounding
from .serial_multiplier import SerialMultiplier
from .timing import multiply_delay, requantize_delay, rescale_delay, shift_delay

__all__ = ["Requantize", "Rescale"]

_INT8_BITS = (INT8_MAX - INT8_MIN).bit_length()
_SHORT_BITS = _INT8_BITS + 2
"""With ``twice`` cut to 10 bits a result is within -256 and 256; either end is clamped whatever the zero point is."""
_HIGH = 31
"""Bit at which gemmlowp rounds first."""


class Rescale(wiring.Component):
    """Twice a value, times ``multiplier / 2**shift``, before the last rounding.

    The rescaled value is ``(twice + 1) >> 1``. Registers load under ``enable`` alone; there is no reset.

    Latency
    -------
    ``delay`` registers. ``shift`` is taken ``timing.shift_delay`` cycles after ``value``. With ``post.interval``,
    values must be so many cycles apart.

    Parameters
    ----------
    post : PostConfig
        Rounding rules and width of the multiplier.
    value_bits : int
    left_shift : int
        Zeros below the value; its width and theirs must be 29 or more together.
    bits : int or None
        Width of ``twice``, to which it saturates; None: the whole product's.

    Members
    -------
    enable : ``In(delay)``
        Bit ``i`` loads register ``i``.
    value : ``In(signed(value_bits))``
    multiplier : ``In(post.multiplier_bits)``
    shift : ``In(SHIFT_BITS)``
        From ``MIN_SHIFT`` to ``MAX_SHIFT``.
    rounding : ``In(1)``
        A :class:`~.isa.RoundingCode`, steady while a value is under way. Ignored if ``post`` has one rule only.
    twice : ``Out(signed(bits))``
    """

    enable: Signal
    value: Signal
    multiplier: Signal
    shift: Signal
    rounding: Signal
    twice: Signal

    def __init__(self, post: PostConfig, value_bits: int, left_shift: int = 0, *, bits: int | None = None):
        self._post = post
        self._value_bits = value_bits
        self._left_shift = left_shift
        self._bits = bits
        super().__init__({
            "enable": In(self.delay),
            "value": In(signed(value_bits)),
            "multiplier": In(post.multiplier_bits),
            "shift": In(SHIFT_BITS),
            "rounding": In(1),
            "twice": Out(signed(bits or value_bits + left_shift + post.multiplier_bits)),
        })

    @property
    def post(self) -> PostConfig:
        return self._post

    @property
    def value_bits(self) -> int:
        return self._value_bits

    @property
    def left_shift(self) -> int:
        return self._left_shift

    @property
    def bits(self) -> int | None:
        return self._bits

    @property
    def delay(self) -> int:
        return rescale_delay(self._post)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        m.submodules.multiplier = multiplier = self._multiplier()
        m.d.comb += [
            multiplier.enable.eq(self.enable),
            multiplier.value.eq(self.value),
            multiplier.factor.eq(self.multiplier),
        ]
        product = Cat(Const(0, self.left_shift), multiplier.product).as_signed()
        shift, amount = self._shifts(m)
        if Rounding.TFLITE_DOUBLE in self.post.roundings:
            # One bit more, for a number that rounds up to the next power of two.
            rounded = Signal(signed(len(product) + 1), reset_less=True)
            steps = Signal(SHIFT_BITS, reset_less=True)
            with m.If(self.enable[multiply_delay(self.post)]):
                m.d.sync += [rounded.eq(self._round_high(product, shift)), steps.eq(amount)]
            product, amount = rounded, steps
        twice = Signal.like(self.twice, reset_less=True)
        with m.If(self.enable[-1]):
            m.d.sync += twice.eq(product >> amount if self.bits is None else _shift(product, amount, self.bits))
        m.d.comb += self.twice.eq(twice)

        return m

    def _multiplier(self) -> Multiplier | SerialMultiplier:
        if self.post.interval > 1:
            return SerialMultiplier(self.post, self.value_bits)
        make = BlockMultiplier if self.post.blocks else Multiplier
        return make(self.value_bits, self.post.multiplier_bits)

    def _shifts(self, m: Module) -> tuple[Value, Value]:
        """The shift, and one less, when the product is there."""
        taken, at = shift_delay(self.post), multiply_delay(self.post)
        shifts = [self.shift, (self.shift - 1)[:SHIFT_BITS]]
        if taken < at:
            early = [Signal(SHIFT_BITS, reset_less=True, name=name) for name in ("early_shift", "early_amount")]
            with m.If(self.enable[taken]):
                m.d.sync += [register.eq(value) for register, value in zip(early, shifts, strict=True)]
            shifts = early
        return shifts[0], shifts[1]

    def _round_high(self, product: Value, shift: Value) -> Value:
        """First of gemmlowp's roundings where it is asked for, such that the rule ``SINGLE`` does the rest."""
        top = product[_HIGH - 1 :].as_signed()
        high = (top + Mux(top[-1], -1, 1)) >> 1
        aligned = Cat(Const(0, _HIGH), high).as_signed()
        double = shift > _HIGH
        if Rounding.SINGLE in self.post.roundings:
            double &= self.rounding == RoundingCode.TFLITE_DOUBLE
        return Mux(double, aligned, product)


class Requantize(wiring.Component):
    """``clamp(rescale(value, multiplier, shift) + zero_point, low, high)``.

    The hardware of :meth:`.numerics.Requantizer.compute`.
    Registers load under ``enable`` alone; there is no reset.

    Latency
    -------
    ``delay`` registers. ``shift`` is taken ``timing.shift_delay`` cycles after ``value``. With ``post.interval``,
    values must be so many cycles apart.

    Parameters
    ----------
    post : PostConfig
        Rounding rules and width of the multiplier.
    value_bits : int

    Members
    -------
    enable : ``In(delay)``
        Bit ``i`` loads register ``i``.
    value : ``In(signed(value_bits))``
    multiplier, shift, rounding
        As in :class:`Rescale`.
    zero_point, low, high : ``In(signed(8))``
        Steady while a value is under way; ``low <= high``.
    result : ``Out(signed(8))``
    clamped : ``Out(1)``
        The result differs from the sum before the clamp.
    """

    enable: Signal
    value: Signal
    multiplier: Signal
    shift: Signal
    rounding: Signal
    zero_point: Signal
    low: Signal
    high: Signal
    result: Signal
    clamped: Signal

    def __init__(self, post: PostConfig, value_bits: int):
        self._post = post
        self._value_bits = value_bits
        int8 = signed(_INT8_BITS)
        super().__init__({
            "enable": In(self.delay),
            "value": In(signed(value_bits)),
            "multiplier": In(post.multiplier_bits),
            "shift": In(SHIFT_BITS),
            "rounding": In(1),
            "zero_point": In(int8),
            "low": In(int8),
            "high": In(int8),
            "result": Out(int8),
            "clamped": Out(1),
        })

    @property
    def post(self) -> PostConfig:
        return self._post

    @property
    def value_bits(self) -> int:
        return self._value_bits

    @property
    def delay(self) -> int:
        return requantize_delay(self._post)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        m.submodules.rescale = rescale = Rescale(self.post, self.value_bits, bits=_SHORT_BITS)
        m.d.comb += [
            rescale.enable.eq(self.enable),
            rescale.value.eq(self.value),
            rescale.multiplier.eq(self.multiplier),
            rescale.shift.eq(self.shift),
            rescale.rounding.eq(self.rounding),
        ]

        short = rescale.twice
        rounded = Signal(signed(_SHORT_BITS), reset_less=True)
        with m.If(self.enable[-2]):
            m.d.sync += rounded.eq((short >> 1) + short[0])

        total = Signal(signed(_INT8_BITS + 3))
        under, over = Signal(), Signal()
        result, clamped = Signal.like(self.result, reset_less=True), Signal(reset_less=True)
        m.d.comb += [
            total.eq(rounded + self.zero_point),
            under.eq(total < self.low),
            over.eq(total > self.high),
        ]
        with m.If(self.enable[-1]):
            m.d.sync += [
                result.eq(Mux(over, self.high, Mux(under, self.low, total))),
                clamped.eq(under | over),
            ]
        m.d.comb += [self.result.eq(result), self.clamped.eq(clamped)]

        return m


def _shift(value: Value, amount: Value, bits: int) -> Value:
    """``value >> amount``, or the nearest signed number of ``bits`` bits.

    The longest shift comes first. Behind each, only those bits are kept which the shorter ones can still bring down; of
    the others it is enough to know whether they all equal the sign.
    """
    sign = value[-1]
    beyond: Value = Const(0)
    for place in reversed(range(len(amount))):
        distance = 1 << place
        kept = bits + distance - 1
        both = [taken[:kept].as_signed() if len(taken) > kept else taken for taken in (value, value >> distance)]
        lost = [(part[kept:] ^ sign.replicate(len(part[kept:]))).any() for part in (value, value >> distance)]
        beyond |= Mux(amount[place], lost[1], lost[0])
        value = Mux(amount[place], both[1], both[0]).as_signed()
    nearest = Cat((~sign).replicate(bits - 1), sign)
    return Mux(beyond | (value[bits - 1] ^ sign), nearest, value[:bits]).as_signed()
