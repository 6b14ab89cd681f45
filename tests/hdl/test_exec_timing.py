# SPDX-License-Identifier: Apache-2.0
"""Timeline of the compute engine: its short cuts against the same run one vector at a time.

The bench of the engine holds it against the hardware.
"""

import random

import pytest

from tests.hdl.exec_model import small_config
from tilewright_hdl.exec_timing import ExecTimeline
from tilewright_hdl.isa import Exec
from tilewright_hdl.timing import exec_cycles


def state(timeline: ExecTimeline) -> tuple[int, ...]:
    return timeline.earliest, timeline.ready, timeline.done, timeline.stall


@pytest.mark.parametrize("rows", [4, 7, 16])
def test_short_cuts(rows: int) -> None:
    rng = random.Random(rows)
    slow, by_pass, fast = (ExecTimeline(small_config(rows, 4)) for _ in range(3))
    offered = 0
    for _ in range(60):
        offered += rng.choice([0, 0, 1, 30, 300])
        depthwise = rng.randrange(2)
        ins = Exec(output_height=1, output_width=rng.choice([1, 2, 3, rows - 1, rows, rows + 1, 40]), input_height=1,
                   input_width=1, column_tiles=rng.choice([1, 2, 3, 9]), input_address=0, weight_address=0, bank=0,
                   depthwise=depthwise, kernel_width=rng.randint(1, rows if depthwise else 2))
        assert slow.transfer(offered, ins) == by_pass.transfer(offered, ins) == fast.transfer(offered, ins)
        for _ in range(ins.passes):
            slow.begin_pass()
            for _ in range(ins.vectors):
                slow.issue(slow.earliest)
            by_pass.begin_pass()
            by_pass.issue(by_pass.earliest, ins.vectors)
        fast.issue_passes(ins.passes)
        assert state(slow) == state(by_pass) == state(fast)


@pytest.mark.parametrize("vectors", [1, 3, 4, 5, 30])
@pytest.mark.parametrize("passes", [1, 2, 5])
@pytest.mark.parametrize("depthwise", [0, 1])
def test_one_instruction(vectors: int, passes: int, depthwise: int) -> None:
    config = small_config(7, 4)
    ins = Exec(output_height=1, output_width=vectors, input_height=1, input_width=1, column_tiles=passes,
               input_address=0, weight_address=0, bank=0, depthwise=depthwise)
    timeline = ExecTimeline(config)
    start = timeline.transfer(1000, ins)
    timeline.issue_passes(passes)
    assert timeline.done - start == exec_cycles(config, ins)
