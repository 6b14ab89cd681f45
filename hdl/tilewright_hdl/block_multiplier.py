# SPDX-License-Identifier: Apache-2.0
"""Pipelined multiplier of an FPGA's multiplier blocks, with the registers within those.

Blocks of 18 x 18 bits are few and lie where they lie, often far from what they work for. With registers on both sides
of a block, either way to it takes a cycle of its own.
"""

from collections.abc import Callable

from amaranth import Cat, ClockSignal, Instance, Module, Signal, Value, signed

from .multiplier import Multiplier
from .once import VerilogLibrary
from .targets import Target
from .timing import BLOCK_MULTIPLY
from .verilog_multipliers import ECP5_WHOLE, GOWIN_WHOLE

__all__ = ["BlockMultiplier"]

_BLOCK_BITS = 18
_CUT = _BLOCK_BITS - 1
"""Bits of the lower part of a value that does not fit into a block. A part has no sign, and gets one."""


class BlockMultiplier(Multiplier):
    """Product of a signed value and an unsigned factor.

    What a block does is the same in each cycle, for blocks
    share the wires that could hold them; the registers behind load under ``enable``. There is no reset.

    With the value as ``upper * 2**17 + lower`` and the factor as ``high * 2**half + low``, four blocks make the
    products of the parts; ``lower * low`` ends where ``upper * high`` begins. A value of 18 bits is one part.

    Latency
    -------
    ``timing.BLOCK_MULTIPLY`` registers: the parts of the operands, their products, the sum of those in the middle, and
    the product.

    Parameters
    ----------
    value_bits : int
        1 to 35.
    factor_bits : int
        2 to 34.

    Members
    -------
    enable : ``In(timing.BLOCK_MULTIPLY)``
        Bit ``i`` loads register ``i``; the first two load always.
    value : ``In(signed(value_bits))``
    factor : ``In(factor_bits)``
    product : ``Out(signed(value_bits + factor_bits))``
    """

    delay = BLOCK_MULTIPLY

    def __init__(self, value_bits: int, factor_bits: int):
        if not 1 <= value_bits <= _CUT + _BLOCK_BITS or not 2 <= factor_bits <= 2 * _CUT:
            raise ValueError(f"value_bits must be from 1 to {_CUT + _BLOCK_BITS} and factor_bits from 2 to {2 * _CUT}, "
                             f"not {value_bits!r} and {factor_bits!r}")
        super().__init__(value_bits, factor_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        target = platform.target if isinstance(platform, VerilogLibrary) else Target.GENERIC
        multiply = _BLOCKS.get(target, _generic)
        half = (self.factor_bits + 1) // 2
        low, high = self.factor[:half], self.factor[half:]
        if self.value_bits <= _BLOCK_BITS:
            outer, middle = (multiply(m, platform, self.value, part) for part in (low, high))
        else:
            lower, upper = self.value[:_CUT], self.value[_CUT:].as_signed()
            lowest, highest = multiply(m, platform, lower, low), multiply(m, platform, upper, high)
            outer = Cat(lowest[: _CUT + half], highest).as_signed()
            middle = multiply(m, platform, lower, high) + (multiply(m, platform, upper, low) << (_CUT - half))

        outside = Signal.like(outer, reset_less=True)
        between = Signal.like(middle, reset_less=True)
        product = Signal.like(self.product, reset_less=True)
        with m.If(self.enable[2]):
            m.d.sync += [outside.eq(outer), between.eq(middle)]
        with m.If(self.enable[3]):
            m.d.sync += product.eq(Cat(outside[:half], outside[half:].as_signed() + between))
        m.d.comb += self.product.eq(product)

        return m


def _generic(m: Module, platform: object, a: Value, b: Value) -> Value:
    operands = [Signal.like(value, reset_less=True) for value in (a, b)]
    product = Signal.like(operands[0] * operands[1], reset_less=True)
    m.d.sync += [*(operand.eq(value) for operand, value in zip(operands, (a, b), strict=True)),
                 product.eq(operands[0] * operands[1])]
    return product


def _block(name: str, text: str) -> Callable[..., Value]:
    """Product by an instance of a module of ``verilog_multipliers``."""
    def body(m: Module, platform: VerilogLibrary, a: Value, b: Value) -> Value:
        platform.define_text(name, text)
        product = Signal(signed(2 * _BLOCK_BITS))
        wide = [Signal(signed(_BLOCK_BITS)) for _ in range(2)]
        m.d.comb += [factor.eq(value) for factor, value in zip(wide, (a, b), strict=True)]
        m.submodules += Instance(name, i_clk=ClockSignal(), i_a=wide[0], i_b=wide[1], o_p=product)
        return product[: len(a) + len(b) + 1].as_signed()

    return body


_BLOCKS: dict[Target, Callable[..., Value]] = {
    Target.ECP5: _block("ecp5_whole_multiplier", ECP5_WHOLE),
    Target.GOWIN: _block("gowin_whole_multiplier", GOWIN_WHOLE),
}
