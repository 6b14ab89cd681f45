# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Block multipliers of all targets make the products of integers, with the vendors' blocks in the simulation."""

import ctypes
import re
from functools import cache
from itertools import product

import numpy as np
import pytest

from tests.hdl.dsp_blocks import vendor_blocks
from tilewright_hdl.block_multiplier import BlockMultiplier
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.targets import Target
from tilewright_hdl.timing import BLOCK_MULTIPLY
from tilewright_sim.verilator import build_shared_library

SIZES = [(32, 31), (9, 31), (18, 16), (19, 31), (35, 28), (1, 2), (20, 8)]
"""Bits of value and factor: together no more than 63."""

# A word of the inputs goes in each cycle, and one of the outputs comes out.
_SHIM = """\
#include "Vtop.h"

extern "C" void run(long cycles, const long *values, const long *factors, const char *enables, long *products) {{
    Vtop top;
    for (long cycle = 0; cycle < cycles; cycle++) {{
        top.value = values[cycle] & {value_mask}L;
        top.factor = factors[cycle];
        top.enable = enables[cycle];
        top.clk = 0;
        top.eval();
        products[cycle] = (long)top.product << {idle} >> {idle};
        top.clk = 1;
        top.eval();
    }}
}}
"""


@cache
def library(value_bits: int, factor_bits: int, target: Target) -> ctypes.CDLL:
    text = emit_verilog(BlockMultiplier(value_bits, factor_bits), "dut", target=target)
    shim = _SHIM.format(value_mask=(1 << value_bits) - 1, idle=64 - value_bits - factor_bits)
    return ctypes.CDLL(str(build_shared_library({"dut.v": text, "models.v": vendor_blocks(target)}, "dut", shim)))


def rtl_products(
    values: np.ndarray, factors: np.ndarray, enables: np.ndarray, value_bits: int, factor_bits: int, target: Target
) -> np.ndarray:
    """What comes out, from ``BLOCK_MULTIPLY`` cycles on."""
    idle = (0,) * BLOCK_MULTIPLY
    given = [np.concatenate([values, idle]), np.concatenate([factors, idle]),
             np.concatenate([enables, np.full(BLOCK_MULTIPLY, 15)]).astype(np.int8)]
    products = np.zeros(len(given[0]), np.int64)
    library(value_bits, factor_bits, target).run(
        ctypes.c_long(len(products)), *(ctypes.c_void_p(part.ctypes.data) for part in (*given, products)))
    return products[BLOCK_MULTIPLY:]


def operands(value_bits: int, factor_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Extremes against extremes, around the cuts as well, and random numbers of all sizes."""
    top, end = 1 << (value_bits - 1), 1 << factor_bits
    cuts = [1 << bit for bit in range(value_bits - 1)]
    values = {-top, -1, 0, top - 1, *cuts, *(cut - 1 for cut in cuts), *(-cut for cut in cuts)}
    factors = {0, end - 1, *(1 << bit for bit in range(factor_bits)), *((1 << bit) - 1 for bit in range(factor_bits))}
    corners = np.array(list(product(sorted(values), sorted(factors))), np.int64)
    rng = np.random.default_rng(value_bits)
    count = 20_000
    random = np.stack([rng.integers(-top, top, count) >> rng.integers(0, value_bits, count),
                       rng.integers(0, end, count) >> rng.integers(0, factor_bits, count)], 1)
    both = np.concatenate([corners, random])
    rng.shuffle(both)
    value, factor = both.T
    return np.ascontiguousarray(value), np.ascontiguousarray(factor)


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize(("value_bits", "factor_bits"), SIZES)
def test_products(value_bits: int, factor_bits: int, target: Target) -> None:
    values, factors = operands(value_bits, factor_bits)
    enables = np.full(len(values), 15)
    found = rtl_products(values, factors, enables, value_bits, factor_bits, target)
    assert np.array_equal(found, values * factors)


@pytest.mark.parametrize("target", Target)
def test_registers_load_only_if_enabled(target: Target) -> None:
    """An operand goes its way with enables of its own; the last product stays while there are none."""
    values, factors = operands(32, 31)
    taken = np.random.default_rng(2).random(len(values)) < 0.4
    enables = sum(np.roll(taken, stage).astype(np.int64) << stage for stage in range(BLOCK_MULTIPLY))
    found = rtl_products(values, factors, enables, 32, 31, target)[:-BLOCK_MULTIPLY]
    last = np.maximum.accumulate(np.where(taken, np.arange(len(values)), -1))[:-BLOCK_MULTIPLY]
    known = last >= 0
    assert np.array_equal(found[known], (values * factors)[last[known]])


@pytest.mark.parametrize(("target", "blocks"), [
    (Target.ECP5, (4, 2)), (Target.GOWIN, (4, 2)), (Target.GENERIC, (0, 0)), (Target.ICE40, (0, 0)),
])
def test_blocks_of_targets(target: Target, blocks: tuple[int, int]) -> None:
    """Those of a value of 32 bits, and of one of 9."""
    texts = [emit_verilog(BlockMultiplier(bits, 31), "dut", target=target) for bits in (32, 9)]
    instance = re.compile(rf"^  {target}_whole_multiplier \S+ \(", re.MULTILINE)
    assert tuple(len(instance.findall(text)) for text in texts) == blocks


@pytest.mark.parametrize(("value_bits", "factor_bits"), [(0, 31), (36, 31), (32, 1), (32, 35)])
def test_wrong_sizes(value_bits: int, factor_bits: int) -> None:
    with pytest.raises(ValueError, match=re.escape(
            "value_bits must be from 1 to 35 and factor_bits from 2 to 34, "
            f"not {value_bits} and {factor_bits}")):
        BlockMultiplier(value_bits, factor_bits)
