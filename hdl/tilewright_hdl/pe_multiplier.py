# SPDX-License-Identifier: Apache-2.0
"""Multiplier of processing elements.

Two products of one multiplier
------------------------------
Where two elements take the same activation ``a``, one multiplier of 18 x 18 bits makes both products, exactly, for all
weights. With ``w0 = low + 64 * digit``, where ``low`` is from 0 to 63 and ``digit`` from -2 to 1, it multiplies
``w1 * 2**10 + low``, which always fits into 18 bits, by ``a``:

    P = w1 * a * 2**10 + y        with y = low * a, from -128 * 63 to 127 * 63: 14 bits

The products overlap in bits 10 to 13, and what stands there of the upper one is ``m = w1 * a mod 16``, which is made
beside the multiplier of the four low bits of both factors. So, modulo 16 and with the borrow of that subtraction,

    y >> 10   = (P >> 10) - m
    w1 * a    = ((P >> 14) - borrow + (y < 0)) * 16 + m
    w0 * a    = y + 64 * digit * a

The upper bits of ``w0`` as a digit cost one adder behind the multiplier. They spare the one in front of it that a
negative ``w0`` would take, two of six bits of overlap, and all restrictions: -128 is a weight like any other.
"""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import verilog_multipliers
from .config import Multipliers
from .once import VerilogLibrary
from .targets import Target

__all__ = ["MultiplierLane", "PEMultiplier"]

_OFFSET = 10
_LOW = 6
_OVERLAP = 4


class MultiplierLane(wiring.Signature):
    """What a processing element has to do with its multiplier, seen from the element.

    In a cycle with ``swap`` the weight is used that is offered, and stays in use from then on.

    Members
    -------
    factor : ``Out(signed(8))``
    weight, swap : ``Out(signed(8))``, ``Out(1)``
    factor_out : ``In(signed(8))``
        The factor one cycle later.
    product : ``In(signed(16))``
        Product of the factor and the weight, :func:`~tilewright_hdl.timing.product_delay` cycles later.
    """

    def __init__(self) -> None:
        super().__init__({
            "factor": Out(signed(8)),
            "weight": Out(signed(8)),
            "swap": Out(1),
            "factor_out": In(signed(8)),
            "product": In(signed(16)),
        })

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __repr__(self) -> str:
        return "MultiplierLane()"


class PEMultiplier(wiring.Component):
    """Products of one processing element, or of those that share a multiplier.

    The target, which comes with the platform, decides what makes the products; behaviour is the same for all of them.
    A target has nothing of its own for ``DIRECT``, and but for the ECP5 nothing for ``PAIRED``.

    Latency
    -------
    :func:`~tilewright_hdl.timing.product_delay`

    Parameters
    ----------
    multipliers : Multipliers
    lanes : int
        At least 1; 2 for ``PAIRED``.

    Members
    -------
    lanes : ``In(MultiplierLane()).array(lanes)``
        With ``PAIRED``, ``factor`` is the same for both.
    """

    lanes: Any

    # Like the elements.
    reset_less = True

    def __init__(self, multipliers: Multipliers, lanes: int):
        self._multipliers = Multipliers(multipliers)
        paired = self._multipliers == Multipliers.PAIRED
        if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1 or (paired and lanes != 2):
            raise ValueError(f"lanes must be {'2' if paired else 'an integer of at least 1'}, not {lanes!r}")
        super().__init__({"lanes": In(MultiplierLane()).array(lanes)})

    @property
    def multipliers(self) -> Multipliers:
        return self._multipliers

    def elaborate(self, platform: object) -> Module:
        m = Module()

        weights = [Signal(signed(8), name=f"weight_{i}") for i, _ in enumerate(self.lanes)]
        for lane, weight in zip(self.lanes, weights, strict=True):
            m.d.sync += lane.factor_out.eq(lane.factor)
            with m.If(lane.swap):
                m.d.sync += weight.eq(lane.weight)
            if self._multipliers == Multipliers.DIRECT:
                m.d.comb += lane.product.eq(lane.factor * Mux(lane.swap, lane.weight, weight))
        if self._multipliers == Multipliers.DIRECT:
            return m

        target = platform.target if isinstance(platform, VerilogLibrary) else Target.GENERIC
        factors = [lane.factor_out for lane in self.lanes]
        if self._multipliers == Multipliers.PAIRED and target == Target.ECP5:
            products = _packed(m, platform, factors[0], weights)
        else:
            products = _BODIES[target](m, platform, factors, weights)
        for lane, product in zip(self.lanes, products, strict=True):
            domain = m.d.sync if self._multipliers == Multipliers.PAIRED else m.d.comb
            domain += lane.product.eq(product)

        return m


def _generic(m: Module, platform: object, factors: list[Value], weights: list[Value]) -> list[Value]:
    products = [Signal(signed(16), name=f"product_{i}") for i, _ in enumerate(factors)]
    m.d.sync += [product.eq(a * w) for product, a, w in zip(products, factors, weights, strict=True)]
    return products


def _ecp5(m: Module, platform: VerilogLibrary, factors: list[Value], weights: list[Value]) -> list[Value]:
    return [_block(m, platform, "ecp5_multiplier", verilog_multipliers.ECP5, 18, a, w)[:16]
            for a, w in zip(factors, weights, strict=True)]


def _gowin(m: Module, platform: VerilogLibrary, factors: list[Value], weights: list[Value]) -> list[Value]:
    return [_block(m, platform, "gowin_multiplier", verilog_multipliers.GOWIN, 9, a, w)[:16]
            for a, w in zip(factors, weights, strict=True)]


def _ice40(m: Module, platform: VerilogLibrary, factors: list[Value], weights: list[Value]) -> list[Value]:
    products: list[Value] = []
    for first in range(0, len(factors), 2):
        a, w = (Cat(*values[first : first + 2]) for values in (factors, weights))
        both = _block(m, platform, "ice40_multipliers", verilog_multipliers.ICE40, 16, a, w)
        products += [both.word_select(part, 16) for part in range(len(a) // 8)]
    return products


_BODIES = {Target.GENERIC: _generic, Target.ECP5: _ecp5, Target.ICE40: _ice40, Target.GOWIN: _gowin}


def _block(m: Module, platform: VerilogLibrary, name: str, text: str, bits: int, a: Value, b: Value) -> Value:
    """Product of two signed factors by an instance of a module of ``verilog_multipliers``, one cycle later.

    Factors that are narrower than the block lie in its upper bits: zeros below them take no wires, many signs above
    them would.
    """
    platform.define_text(name, text)
    idle = 2 * bits - len(a) - len(b)
    product = Signal(signed(2 * bits))
    wide = [Cat(Const(0, bits - len(factor)), factor) for factor in (a, b)]
    m.submodules += Instance(name, i_clk=ClockSignal(), i_a=wide[0], i_b=wide[1], o_p=product)
    return product[idle:].as_signed()


def _packed(m: Module, platform: VerilogLibrary, a: Value, weights: list[Value]) -> list[Value]:
    """Both products of a pair, one cycle behind the operands and still to be registered."""
    w0, w1 = weights
    both = Cat(w0[:_LOW], Const(0, _OFFSET - _LOW), w1)
    p = _block(m, platform, "ecp5_multiplier", verilog_multipliers.ECP5, 18, both, a)

    # Not with `*`, which synthesis would turn into one more multiplier.
    middle = Signal(_OVERLAP)
    # Times the digit; a negative one as the complement, which lacks 1.
    multiple = Signal(signed(9))
    lacks = Signal()
    once = Mux(w0[_LOW], a, Mux(w0[_LOW + 1], a << 1, 0))
    m.d.sync += [
        middle.eq(sum((Mux(w1[bit], a[: _OVERLAP - bit], 0) << bit for bit in range(_OVERLAP)), Const(0))),
        multiple.eq(Mux(w0[_LOW + 1], ~once, once)),
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
    # Each is one adder: its lowest bit, which is dropped, makes the carry.
    low = (Cat(lacks, y[_LOW:]).as_signed() + Cat(lacks, multiple).as_signed()) >> 1
    high = (Cat(more, p[top : _OFFSET + 16]) + Cat(more, less.replicate(16 - _OVERLAP))) >> 1
    return [Cat(y[:_LOW], low[: 16 - _LOW]), Cat(middle, high[: 16 - _OVERLAP])]
