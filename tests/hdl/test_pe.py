# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Processing element, and the skew that feeds it."""

import random
from typing import Any

import pytest
from amaranth.hdl import signed

from tilewright_hdl.pe import PE
from tilewright_hdl.skew import Skew
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

SUM_BITS = 18
LANES = 4


def ref_pe(inputs: list[dict[str, int]]) -> list[dict[str, int]]:
    """Outputs one cycle after each of the inputs, with the same inputs still there."""
    weight = shadow = 0
    outputs = []
    for i in inputs:
        weight = shadow if i["swap"] else weight
        factor = shadow if i["slide"] else i["activation"]
        shadow = i["weight"] if i["load"] else shadow
        outputs.append({
            "activation_out": factor,
            "swap_out": i["swap"],
            "load_out": i["load"],
            "slide_out": i["slide"],
            "weight_out": factor if i["slide"] else shadow,
            "sum_out": i["sum"] + factor * weight,
        })
    return outputs


@bench(max_cycles=2_000)
async def elements(tb: Testbench) -> None:
    dut = tb.dut
    tb.result = []
    for inputs in tb.parameters["inputs"]:
        for name, value in inputs.items():
            getattr(dut, name).value = value
        await tb.cycles()
        outputs: dict[str, Any] = {}
        for name in ("activation_out", "weight_out", "sum_out"):
            outputs[name] = int(getattr(dut, name).value.to_signed())
        for name in ("swap_out", "load_out", "slide_out"):
            outputs[name] = int(getattr(dut, name).value)
        tb.result.append(outputs)


@pytest.mark.parametrize("depthwise", [False, True])
def test_pe(depthwise: bool) -> None:
    rng = random.Random(2)
    # At most 3 * 2**14 above the PE, so that its own product still fits.
    inputs = [
        {
            "activation": rng.choice([-128, 127, rng.randint(-128, 127)]),
            "weight": rng.choice([-128, 127, rng.randint(-128, 127)]),
            "sum": rng.choice([-(3 << 14), 3 << 14, rng.randint(-(3 << 14), 3 << 14)]),
            "swap": int(rng.random() < 0.4),
            "load": int(rng.random() < 0.4),
            "slide": int(depthwise and rng.random() < 0.5),
        }
        for _ in range(500)
    ]
    # What the shadow register holds before the first load does not matter.
    inputs[0] |= {"load": 1, "swap": 0, "activation": 0, "slide": 0}
    inputs[1] |= {"load": 0, "swap": 1}
    assert run_bench(PE(SUM_BITS, depthwise), __name__, "elements", parameters={"inputs": inputs}) == ref_pe(inputs)


@bench(max_cycles=500)
async def skewed(tb: Testbench) -> None:
    tb.result = []
    for word in tb.parameters["words"]:
        tb.dut.i.value = word
        await tb.settle()
        tb.result.append(int(tb.dut.o.value))
        await tb.cycles()


def test_skew() -> None:
    rng = random.Random(4)
    words = [rng.getrandbits(8 * LANES) for _ in range(40)]
    waves = run_bench(Skew(signed(8), LANES), __name__, "skewed", parameters={"words": words})
    for cycle in range(LANES, len(words)):
        expected = [words[cycle - lane] >> (8 * lane) & 0xFF for lane in range(LANES)]
        assert list(waves[cycle].to_bytes(LANES, "little")) == expected


@pytest.mark.parametrize("sum_bits", [15, True, 18.0])
def test_wrong_argument(sum_bits: Any) -> None:
    with pytest.raises(ValueError, match=f"sum_bits must be an integer of at least 16, not {sum_bits!r}"):
        PE(sum_bits, True)
