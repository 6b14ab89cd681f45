# SPDX-License-Identifier: Apache-2.0
"""Multiplier of processing elements, and what adds its products to their sums.

Two products of one multiplier
------------------------------
Where two elements take the same activation ``a``, one multiplier of 18 x 18 bits makes both products, exactly, for all
weights. With ``w0 = low + 64 * digit``, where ``low`` is from 0 to 63 and ``digit`` from -2 to 1, it multiplies
``w1 * 2**10 + low``, which always fits into 18 bits, by ``a``:

    P = w1 * a * 2**10 + y        with y = low * a, from -128 * 63 to 127 * 63: 14 bits

The products overlap in bits 10 to 13, and what stands there of the upper one is ``m = w1 * a mod 16``, which is made
beside the multiplier of the four low bits of both factors. So, modulo 16 and with the borrow of that subtraction,

    y >> 10   = (P >> 10) - m
    w1 * a    = (P >> 14) * 16 + ((y < 0) - borrow) * 16 + m
    w0 * a    = y + 64 * digit * a

The second term and ``m`` are small, and are summed up down the column beside ``P >> 14``, as the *rest* of its sum: two
short adders in place of one for the product and one for the sum. Below the last row the rest is added.

The upper bits of ``w0`` as a digit cost one adder behind the multiplier. They spare the one in front of it that a
negative ``w0`` would take, two of six bits of overlap, and all restrictions: -128 is a weight like any other.

Sums in the blocks of the iCE40
-------------------------------
The adders behind the two multipliers have 16 bits, no carry out of the lower one, and a register. So what a sum has
above is counted beside them. Product, sum and result are known by their highest bits: where that of the sum falls, and
the product is not negative, there was a carry; where it rises with a negative product, there was none, so the upper
part goes down. Both outcomes are made while the block adds; the highest bit of its result then chooses. (A product of
0 leaves the highest bit alone, so it may count as negative, and the sign of a product is that of its factors.)
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import Multipliers
from .once import VerilogLibrary
from .targets import Target
from .verilog_multipliers import ECP5, GOWIN, GOWIN_PIPELINED, ICE40, ICE40_CHAIN, ICE40_PAIR

__all__ = ["MultiplierLane", "PEMultiplier", "rest_bits"]

_OFFSET = 10
_LOW = 6
_OVERLAP = 4


def rest_bits(platform: object, multipliers: Multipliers, sum_bits: int) -> int:
    """Bits of what a column of elements hands down beside its sum, to be added to that in the end; 0 if nothing."""
    if isinstance(platform, VerilogLibrary) and (platform.target, multipliers) == (Target.ECP5, Multipliers.PAIRED):
        # Of one element, from -16 to 31, and as many bits more as a sum has more than a product.
        return _OVERLAP + 2 + sum_bits - 16
    return 0


class MultiplierLane(wiring.Signature):
    """What a processing element has to do with its multiplier, seen from the element.

    In a cycle with ``swap`` the weight is used that is offered, and stays in use from then on.

    Members
    -------
    factor : ``Out(signed(8))``
    weight, swap : ``Out(signed(8))``, ``Out(1)``
    factor_out : ``In(signed(8))``
        The factor one cycle later.
    sum : ``Out(signed(sum_bits))``
    sum_out : ``In(signed(sum_bits))``
        One cycle later, with the product of the factor :func:`~tilewright_hdl.timing.product_delay` cycles before; or
        with most of it, and what it lacks is in the rest.

    Parameters
    ----------
    sum_bits : int
        Wide enough that sums never overflow.
    """

    def __init__(self, sum_bits: int):
        self._sum_bits = sum_bits
        super().__init__({
            "factor": Out(signed(8)),
            "weight": Out(signed(8)),
            "swap": Out(1),
            "factor_out": In(signed(8)),
            "sum": Out(signed(sum_bits)),
            "sum_out": In(signed(sum_bits)),
        })

    @property
    def sum_bits(self) -> int:
        return self._sum_bits

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.sum_bits == other.sum_bits

    def __repr__(self) -> str:
        return f"MultiplierLane({self.sum_bits})"


class PEMultiplier(wiring.Component):
    """Products of one processing element, or of those that share a multiplier, added to their sums.

    The target, which comes with the platform, decides what makes the products; behaviour is the same for all of them.
    ``DIRECT`` is the same text for all: synthesis finds multipliers without registers itself.

    Latency
    -------
    :func:`~tilewright_hdl.timing.product_delay` from factor to product, and one for the sum.

    Parameters
    ----------
    multipliers : Multipliers
    lanes : int
        At least 1; 2 for ``PAIRED`` and ``CHAINED``.
    sum_bits : int
        As for :class:`MultiplierLane`.
    rest_bits : int
        What the function of that name says.

    Members
    -------
    lanes : ``In(MultiplierLane(sum_bits)).array(lanes)``
        With ``PAIRED`` and ``CHAINED``, ``factor`` and ``swap`` are the same for both.
    rest, rest_out : ``In(signed(rest_bits))``, ``Out(signed(rest_bits))``
        Of the last lane: its product comes in ``sum_out`` and ``rest_out`` together. Only if there are such bits.
    """

    lanes: Any
    rest: Signal
    rest_out: Signal

    # Like the elements.
    reset_less = True

    def __init__(self, multipliers: Multipliers, lanes: int, sum_bits: int, rest_bits: int = 0):
        self._multipliers = Multipliers(multipliers)
        self._rest_bits = rest_bits
        paired = self._multipliers in (Multipliers.PAIRED, Multipliers.CHAINED)
        if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1 or (paired and lanes != 2):
            raise ValueError(f"lanes must be {'2' if paired else 'an integer of at least 1'}, not {lanes!r}")
        rest = {"rest": In(signed(rest_bits)), "rest_out": Out(signed(rest_bits))} if rest_bits else {}
        super().__init__({"lanes": In(MultiplierLane(sum_bits)).array(lanes), **rest})

    @property
    def multipliers(self) -> Multipliers:
        return self._multipliers

    @property
    def rest_bits(self) -> int:
        return self._rest_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()

        weights = [Signal(signed(8), name=f"weight_{i}") for i, _ in enumerate(self.lanes)]
        for lane, weight in zip(self.lanes, weights, strict=True):
            m.d.sync += lane.factor_out.eq(lane.factor)
            with m.If(lane.swap):
                m.d.sync += weight.eq(lane.weight)
        target = platform.target if isinstance(platform, VerilogLibrary) else Target.GENERIC
        if (target, self._multipliers) == (Target.ICE40, Multipliers.CHAINED):
            _ice40_chain(m, platform, self.lanes, weights)
            return m
        if (target, self._multipliers) == (Target.ECP5, Multipliers.PAIRED):
            _ecp5_pair(m, platform, self, weights)
            return m
        body = _direct if self._multipliers == Multipliers.DIRECT else _BODIES[target, self._multipliers]
        products = body(m, platform, self.lanes, weights)
        m.d.sync += [lane.sum_out.eq(lane.sum + value) for lane, value in zip(self.lanes, products, strict=True)]

        return m


def _direct(m: Module, platform: object, lanes: Any, weights: list[Value]) -> list[Value]:
    return [lane.factor * Mux(lane.swap, lane.weight, weight) for lane, weight in zip(lanes, weights, strict=True)]


def _generic(m: Module, platform: object, lanes: Any, weights: list[Value]) -> list[Value]:
    return [_registered(m, lane.factor_out * weight) for lane, weight in zip(lanes, weights, strict=True)]


def _generic_pair(m: Module, platform: object, lanes: Any, weights: list[Value]) -> list[Value]:
    return [_registered(m, value) for value in _generic(m, platform, lanes, weights)]


def _each(name: str, text: str, bits: int) -> Callable[..., list[Value]]:
    """Body with a block for each product."""
    def body(m: Module, platform: VerilogLibrary, lanes: Any, weights: list[Value]) -> list[Value]:
        return [_block(m, platform, name, text, bits, lane.factor_out, weight)
                for lane, weight in zip(lanes, weights, strict=True)]

    return body


def _ice40(m: Module, platform: VerilogLibrary, lanes: Any, weights: list[Value]) -> list[Value]:
    products: list[Value] = []
    factors = [lane.factor_out for lane in lanes]
    for first in range(0, len(factors), 2):
        a, b = (Cat(*values[first : first + 2]) for values in (factors, weights))
        both = _block(m, platform, "ice40_multipliers", ICE40, 16, a, b)
        products += [both.word_select(part, 16).as_signed() for part in range(len(a) // 8)]
    return products


def _ice40_pair(m: Module, platform: VerilogLibrary, lanes: Any, weights: list[Value]) -> list[Value]:
    # The registers of the operands are in the block, and swaps come to both lanes at once.
    a, b = Cat(*(lane.factor for lane in lanes)), Cat(*(lane.weight for lane in lanes))
    both = _block(m, platform, "ice40_pair", ICE40_PAIR, 16, a, b, i_hold=~lanes[0].swap)
    return [both[:16].as_signed(), both[16:].as_signed()]


def _ice40_chain(m: Module, platform: VerilogLibrary, lanes: Any, weights: list[Value]) -> None:
    a, b = Cat(*(lane.factor for lane in lanes)), Cat(*(lane.weight for lane in lanes))
    sums = Cat(*(lane.sum[:16] for lane in lanes))
    both = _block(m, platform, "ice40_chain", ICE40_CHAIN, 16, a, b, i_hold=~lanes[0].swap, i_s=sums)
    for index, (lane, weight) in enumerate(zip(lanes, weights, strict=True)):
        low, before = both.word_select(index, 16), lane.sum[16:].as_signed()
        negative = Signal(name=f"negative_{index}")
        # The upper part of the sum if the highest bit of the lower one comes out as 0, and as 1.
        upper = [Signal(before.shape(), name=f"upper_{index}_{bit}") for bit in range(2)]
        m.d.sync += [
            negative.eq(lane.factor_out[-1] ^ weight[-1]),
            upper[0].eq(before + (lane.sum[15] & ~negative)),
            upper[1].eq(before - (~lane.sum[15] & negative)),
        ]
        m.d.comb += lane.sum_out.eq(Cat(low, Mux(low[-1], upper[1], upper[0])))


def _registered(m: Module, value: Value) -> Value:
    register = Signal(signed(16))
    m.d.sync += register.eq(value)
    return register


def _block(
    m: Module, platform: VerilogLibrary, name: str, text: str, bits: int, a: Value, b: Value, **others: Value
) -> Value:
    """Product of two signed factors by an instance of a module of ``verilog_multipliers``.

    Factors that are narrower than the block lie in its upper bits: zeros below them take no wires, many signs above
    them would.
    """
    platform.define_text(name, text)
    idle = 2 * bits - len(a) - len(b)
    product = Signal(signed(2 * bits))
    wide = [Cat(Const(0, bits - len(factor)), factor) for factor in (a, b)]
    m.submodules += Instance(name, i_clk=ClockSignal(), i_a=wide[0], i_b=wide[1], o_p=product, **others)
    return product[idle:].as_signed()


def _ecp5_pair(m: Module, platform: VerilogLibrary, pair: PEMultiplier, weights: list[Value]) -> None:
    lanes = pair.lanes
    a, w0, w1 = lanes[0].factor_out, *weights
    both = Cat(w0[:_LOW], Const(0, _OFFSET - _LOW), w1)
    p = _block(m, platform, "ecp5_multiplier", ECP5, 18, both, a)

    # Not with `*`, which synthesis would turn into one more multiplier.
    middle = Signal(_OVERLAP)
    # digit * a; where that is negative, the complement, which lacks 1.
    multiple = Signal(signed(9))
    lacks = Signal()
    size = Mux(w0[_LOW], a, Mux(w0[_LOW + 1], a << 1, 0))
    m.d.sync += [
        middle.eq(sum((Mux(w1[bit], a[: _OVERLAP - bit], 0) << bit for bit in range(_OVERLAP)), Const(0))),
        multiple.eq(Mux(w0[_LOW + 1], ~size, size)),
        lacks.eq(w0[_LOW + 1]),
    ]

    top = _OFFSET + _OVERLAP
    overlap = Signal(_OVERLAP + 1)
    y = Signal(signed(top))
    less, more = Signal(), Signal()
    m.d.comb += [
        overlap.eq(p[_OFFSET:top] - middle),
        y.eq(Cat(p[:_OFFSET], overlap[:_OVERLAP])),
        less.eq(overlap[_OVERLAP] & ~y[-1]),
        more.eq(y[-1] & ~overlap[_OVERLAP]),
    ]
    # One adder: its lowest bit, which is dropped, makes the carry.
    low = (Cat(lacks, y[_LOW:]).as_signed() + Cat(lacks, multiple).as_signed()) >> 1
    product = _registered(m, Cat(y[:_LOW], low[: 16 - _LOW]))
    high, rest = Signal(signed(16 - _OVERLAP)), Signal(signed(_OVERLAP + 2))
    m.d.sync += [
        high.eq(p[top : top + len(high)]),
        rest.eq(Cat(middle, less | more, less)),
        lanes[0].sum_out.eq(lanes[0].sum + product),
        lanes[1].sum_out.eq(Cat(lanes[1].sum[:_OVERLAP], lanes[1].sum[_OVERLAP:].as_signed() + high)),
        pair.rest_out.eq(pair.rest + rest),
    ]


_BODIES = {
    (Target.GENERIC, Multipliers.REGISTERED): _generic,
    (Target.GENERIC, Multipliers.PAIRED): _generic_pair,
    (Target.GENERIC, Multipliers.CHAINED): _generic,
    (Target.ECP5, Multipliers.REGISTERED): _each("ecp5_multiplier", ECP5, 18),
    (Target.ECP5, Multipliers.CHAINED): _each("ecp5_multiplier", ECP5, 18),
    (Target.ICE40, Multipliers.REGISTERED): _ice40,
    (Target.ICE40, Multipliers.PAIRED): _ice40_pair,
    (Target.GOWIN, Multipliers.REGISTERED): _each("gowin_multiplier", GOWIN, 9),
    (Target.GOWIN, Multipliers.CHAINED): _each("gowin_multiplier", GOWIN, 9),
    (Target.GOWIN, Multipliers.PAIRED): _each("gowin_pipelined_multiplier", GOWIN_PIPELINED, 9),
}
