# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Multipliers of all targets make the same sums, of all products, with the vendors' blocks in the simulation."""

import ctypes
import re
from functools import cache

import numpy as np
import pytest

from tests.hdl.dsp_blocks import vendor_blocks
from tilewright_hdl.config import ArrayConfig, Multipliers
from tilewright_hdl.once import VerilogLibrary, emit_verilog
from tilewright_hdl.pe_multiplier import PEMultiplier, rest_bits
from tilewright_hdl.targets import Target
from tilewright_hdl.timing import product_delay
from tilewright_sim.verilator import build_shared_library

DIRECT, REGISTERED, PAIRED, CHAINED = Multipliers
SUM_BITS = 18
ROOM = (1 << (SUM_BITS - 1)) - (1 << 14)
VARIANTS = [
    (DIRECT, 1, Target.GENERIC), (REGISTERED, 1, Target.GENERIC), (PAIRED, 2, Target.GENERIC),
    (DIRECT, 1, Target.ECP5), (REGISTERED, 1, Target.ECP5), (PAIRED, 2, Target.ECP5),
    (REGISTERED, 1, Target.ICE40), (REGISTERED, 2, Target.ICE40), (REGISTERED, 3, Target.ICE40),
    (PAIRED, 2, Target.ICE40), (REGISTERED, 1, Target.GOWIN), (PAIRED, 2, Target.GOWIN),
    *((CHAINED, 2, target) for target in Target),
]

# Of each cycle: for each lane factor, weight, swap and sum go in, factor_out and sum_out come out.
_SHIM = """\
#include "Vtop.h"

static int extended(unsigned value, int bits) {{ return (int)(value << (32 - bits)) >> (32 - bits); }}

extern "C" void run(long cycles, const int *in, int *out) {{
    Vtop top;
    for (long cycle = 0; cycle < cycles; cycle++) {{
        {set}
        top.clk = 0;
        top.eval();
        {get}
        top.clk = 1;
        top.eval();
    }}
}}

// Wrong sums of products of all weights of the even lanes from w0 on, of the odd ones from w1 on, and all factors, each
// with one of the sums that cannot overflow.
extern "C" long wrong(int w0, int end0, int w1, int end1, int delay) {{
    Vtop top;
    const int first = w0;
    long count = 0;
    unsigned cycle = 0, chance = 1;
    int expected[8][2], sum = 0, before = 0, rest = 0, rest_before = 0;
    for (; w1 < end1; w1++)
        for (w0 = first; w0 < end0; w0++)
            for (int factor = -128; factor < 128; factor++, cycle++) {{
                expected[cycle % 8][0] = w0 * factor;
                expected[cycle % 8][1] = w1 * factor;
                chance = chance * 1664525u + 1013904223u;
                before = sum;
                rest_before = rest;
                sum = (int)(chance >> 8) % {room} - (int)(chance >> 7 & 1) * {room};
                // As that of three elements above.
                rest = (int)(chance >> 24) % 142 - 48;
                {step}
                top.clk = 0;
                top.eval();
                const int *products = expected[(cycle - delay - 1) % 8];
                if (cycle > delay) {{
                    {compare}
                }}
                top.clk = 1;
                top.eval();
            }}
    return count;
}}
"""


def multiplier(multipliers: Multipliers, lanes: int, target: Target) -> PEMultiplier:
    return PEMultiplier(multipliers, lanes, SUM_BITS, rest_bits(VerilogLibrary(target=target), multipliers, SUM_BITS))


@cache
def library(multipliers: Multipliers, lanes: int, target: Target) -> ctypes.CDLL:
    dut = multiplier(multipliers, lanes, target)
    text = emit_verilog(dut, "dut", separator="_", target=target)
    names = [f"top.lanes_{i}_" for i in range(lanes)]
    sums = [f"extended({name}sum_out, {SUM_BITS})" for name in names]
    with_rest = ""
    if dut.rest_bits:
        with_rest = " + rest_before"
        sums[-1] += f" + extended(top.rest_out, {dut.rest_bits})"
    shim = _SHIM.format(
        set=" ".join(f"{name}{port} = *in++;" for name in names for port in ("factor", "weight", "swap", "sum")),
        get=" ".join(f"*out++ = (signed char){name}factor_out; *out++ = {total};"
                     for name, total in zip(names, sums, strict=True)),
        step=" ".join(f"{name}factor = factor; {name}weight = w{i % 2}; {name}swap = factor == -128; "
                      f"{name}sum = sum & {(1 << SUM_BITS) - 1};"
                      for i, name in enumerate(names))
        + (f"top.rest = rest & {(1 << dut.rest_bits) - 1};" if dut.rest_bits else ""),
        compare=" ".join(f"count += {total} != products[{i % 2}] + before{with_rest if i == lanes - 1 else ''};"
                         for i, total in enumerate(sums)),
        room=ROOM,
    )
    build = ctypes.CDLL(str(build_shared_library({"dut.v": text, "models.v": vendor_blocks(target)}, "dut", shim)))
    build.wrong.restype = ctypes.c_long
    return build


def delay_of(multipliers: Multipliers) -> int:
    return product_delay(ArrayConfig(rows=4, columns=2, multipliers=multipliers, depthwise=False))


def ref_products(inputs: np.ndarray, delay: int) -> np.ndarray:
    """Factors one cycle later and the sums with their products, for inputs of shape (cycles, lanes, 4)."""
    cycles, lanes, _ = inputs.shape
    outputs = np.zeros((cycles, lanes, 2), np.int32)
    outputs[1:, :, 1] = inputs[:-1, :, 3]
    for lane in range(lanes):
        weight = 0
        for cycle, (factor, offered, swap, _) in enumerate(inputs[:, lane].tolist()):
            weight = offered if swap else weight
            if cycle + 1 < cycles:
                outputs[cycle + 1, lane, 0] = factor
            if cycle + delay + 1 < cycles:
                outputs[cycle + delay + 1, lane, 1] += factor * weight
    return outputs


def rtl_products(inputs: np.ndarray, multipliers: Multipliers, target: Target) -> np.ndarray:
    cycles, lanes, _ = inputs.shape
    outputs = np.zeros((cycles, lanes, 2), np.int32)
    given = np.ascontiguousarray(inputs, np.int32)
    library(multipliers, lanes, target).run(
        ctypes.c_long(cycles), given.ctypes.data_as(ctypes.c_void_p), outputs.ctypes.data_as(ctypes.c_void_p))
    return outputs


@pytest.mark.parametrize(("multipliers", "lanes", "target"), VARIANTS)
def test_random_swaps(multipliers: Multipliers, lanes: int, target: Target) -> None:
    rng = np.random.default_rng(lanes)
    inputs = rng.integers(-128, 128, (4000, lanes, 4))
    inputs[rng.random(inputs.shape) < 0.3] = -128
    inputs[:, :, 3] = rng.integers(-ROOM, ROOM, (4000, lanes))
    inputs[:, :, 2] = rng.random(inputs.shape[:2]) < rng.choice([0.02, 0.5, 0.98], (4000, 1))
    if multipliers in (PAIRED, CHAINED):
        inputs[:, 1, :3:2] = inputs[:, 0, :3:2]
    # The first of all comes out of registers that have no reset.
    delay = delay_of(multipliers)
    found, expected = rtl_products(inputs, multipliers, target), ref_products(inputs, delay)
    assert np.array_equal(found[delay + 1 :], expected[delay + 1 :])


@pytest.mark.parametrize(("multipliers", "lanes", "target"), VARIANTS)
def test_all_products(multipliers: Multipliers, lanes: int, target: Target) -> None:
    """All 65,536 products of each lane."""
    every = (-128, 128)
    for other in (-128, -1, 0, 85, 127):
        one = (other, other + 1)
        assert library(multipliers, lanes, target).wrong(*every, *one, delay_of(multipliers)) == 0
        assert library(multipliers, lanes, target).wrong(*one, *every, delay_of(multipliers)) == 0


def test_all_pairs_of_products() -> None:
    """Those of a pair share bits, so all 16,777,216 pairs are made."""
    assert library(PAIRED, 2, Target.ECP5).wrong(-128, 128, -128, 128, delay_of(PAIRED)) == 0


def test_blocks_of_targets() -> None:
    """As few blocks as the products need."""
    blocks = {
        (Target.ECP5, REGISTERED, 1): 1, (Target.ECP5, PAIRED, 2): 1, (Target.ICE40, DIRECT, 1): 0,
        (Target.ICE40, REGISTERED, 2): 1, (Target.ICE40, REGISTERED, 3): 2, (Target.ICE40, PAIRED, 2): 1,
        (Target.ICE40, CHAINED, 2): 1, (Target.ECP5, CHAINED, 2): 2, (Target.GOWIN, CHAINED, 2): 2,
        (Target.GOWIN, REGISTERED, 1): 1, (Target.GOWIN, PAIRED, 2): 2, (Target.GENERIC, REGISTERED, 1): 0,
    }
    for (target, multipliers, lanes), count in blocks.items():
        text = emit_verilog(multiplier(multipliers, lanes, target), "dut", target=target)
        assert len(re.findall(rf"^  {target}_\w+ \S+ \(", text, re.MULTILINE)) == count


@pytest.mark.parametrize(("multipliers", "lanes", "message"), [
    (REGISTERED, 0, "lanes must be an integer of at least 1, not 0"),
    (DIRECT, True, "lanes must be an integer of at least 1, not True"),
    (PAIRED, 1, "lanes must be 2, not 1"),
    (CHAINED, 4, "lanes must be 2, not 4"),
])
def test_wrong_arguments(multipliers: Multipliers, lanes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PEMultiplier(multipliers, lanes, SUM_BITS)
