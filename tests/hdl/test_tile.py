# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Processing elements with their multiplier, and the skew that feeds them."""

import random
from typing import Any

import pytest
from amaranth.hdl import signed

from tilewright_hdl.config import ArrayConfig, Multipliers
from tilewright_hdl.pe import PE
from tilewright_hdl.skew import Skew
from tilewright_hdl.tile import Tile
from tilewright_hdl.timing import product_delay
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

SUM_BITS = 18
LANES = 4


def ref_pe(inputs: list[dict[str, int]], delay: int) -> list[dict[str, int]]:
    """Outputs one cycle after each of the inputs, with the same inputs still there; products take ``delay`` more."""
    weight = shadow = 0
    outputs = []
    products = [0] * delay
    for i in inputs:
        weight = shadow if i["swap"] else weight
        factor = shadow if i["slide"] else i["activations"]
        shadow = i["weights"] if i["load"] else shadow
        products.append(factor * weight)
        outputs.append({
            "activations_out": factor,
            "swap_out": i["swap"],
            "load_out": i["load"],
            "slide_out": i["slide"],
            "weights_out": factor if i["slide"] else shadow,
            "sums_out": i["sums"] + products.pop(0),
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
        for name in ("activations_out", "weights_out", "sums_out"):
            outputs[name] = int(getattr(dut, name).value.to_signed())
        for name in ("swap_out", "load_out", "slide_out"):
            outputs[name] = int(getattr(dut, name).value)
        tb.result.append(outputs)


@pytest.mark.parametrize(("depthwise", "multipliers"), [
    (False, Multipliers.DIRECT), (True, Multipliers.DIRECT), (True, Multipliers.REGISTERED),
])
def test_one_element(depthwise: bool, multipliers: Multipliers) -> None:
    rng = random.Random(2)
    # At most 3 * 2**14 above the PE, so that its own product still fits.
    inputs = [
        {
            "activations": rng.choice([-128, 127, rng.randint(-128, 127)]),
            "weights": rng.choice([-128, 127, rng.randint(-128, 127)]),
            "sums": rng.choice([-(3 << 14), 3 << 14, rng.randint(-(3 << 14), 3 << 14)]),
            "swap": int(rng.random() < 0.4),
            "load": int(rng.random() < 0.4),
            "slide": int(depthwise and rng.random() < 0.5),
        }
        for _ in range(500)
    ]
    # What the shadow register holds before the first load does not matter.
    inputs[0] |= {"load": 1, "swap": 0, "activations": 0, "slide": 0}
    inputs[1] |= {"load": 0, "swap": 1}
    delay = product_delay(ArrayConfig(rows=4, columns=4, multipliers=multipliers))
    tile = Tile(1, 1, SUM_BITS, depthwise, multipliers)
    assert run_bench(tile, __name__, "elements", parameters={"inputs": inputs}) == ref_pe(inputs, delay)


@bench(max_cycles=500)
async def skewed(tb: Testbench) -> None:
    tb.result = []
    for word in tb.parameters["words"]:
        tb.dut.i.value = word
        await tb.settle()
        tb.result.append(int(tb.dut.o.value))
        await tb.cycles()


@pytest.mark.parametrize("group", [1, 2])
def test_skew(group: int) -> None:
    rng = random.Random(4)
    words = [rng.getrandbits(8 * LANES) for _ in range(40)]
    waves = run_bench(Skew(signed(8), LANES, group), __name__, "skewed", parameters={"words": words})
    for cycle in range(LANES, len(words)):
        expected = [words[cycle - lane // group] >> (8 * lane) & 0xFF for lane in range(LANES)]
        assert list(waves[cycle].to_bytes(LANES, "little")) == expected


@pytest.mark.parametrize("sum_bits", [15, True, 18.0])
def test_wrong_argument(sum_bits: Any) -> None:
    with pytest.raises(ValueError, match=f"sum_bits must be an integer of at least 16, not {sum_bits!r}"):
        PE(sum_bits, True)
