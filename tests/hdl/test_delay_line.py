# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The delay by way of a memory."""

import random

import pytest

from tests.hdl.cycle_bench import rtl_cycles
from tilewright_hdl.delay_line import DelayLine


@pytest.mark.parametrize("cycles", [2, 3, 5, 8, 9])
def test_delay(cycles: int) -> None:
    chance = random.Random(cycles)
    values = [chance.getrandbits(11) for _ in range(60)]
    found = rtl_cycles(DelayLine(11, cycles), [{"i": value} for value in values], ["o"])
    assert [cycle["o"] for cycle in found] == [0] * cycles + values[:-cycles]


def test_one_cycle_is_a_register() -> None:
    with pytest.raises(ValueError, match="cycles must be at least 2, not 1"):
        DelayLine(4, 1)
