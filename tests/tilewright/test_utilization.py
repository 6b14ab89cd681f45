# SPDX-License-Identifier: Apache-2.0
"""How near the hardware comes to its peak: cycles of the compute engine, as its profile records and counters tell."""

from dataclasses import dataclass

import pytest

from tests.mapper.bench import Net
from tests.tilewright.agreement import Devices, agree
from tilewright_hdl.config import PRESETS
from tilewright_hdl.isa import Engine, Exec
from tilewright_hdl.program import RunStep
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pipeline import compile_graph

EDGE16 = PRESETS["edge16"]
OVERHEAD = 120
"""Cycles that a convolution may take beyond its passes: filling the array once and draining it once."""


@dataclass(frozen=True)
class Compute:
    """The compute engine's part of a run on ``rtl``, in cycles.

    Members
    -------
    bound : int
        Passes times the larger of vectors and rows.
    span : int
        From the first instruction's start to the last one's end.
    busy : int
        Counter of the cycles with an instruction under way.
    macs, total : int
        MACs, and cycles of the whole run.
    """

    bound: int
    span: int
    busy: int
    macs: int
    total: int

    def utilization(self, cycles: int) -> float:
        """Share of the array's peak."""
        return self.macs / EDGE16.array.pes / cycles


def run_convolution(
    devices: Devices, inputs: int, outputs: int, kernel: int, height: int, width: int, stride: int = 1
) -> Compute:
    """A convolution with an output as large as its input divided by the stride."""
    net = Net((inputs, height, width))
    half = kernel // 2
    x = net.conv("input", outputs, (kernel, kernel), stride=(stride, stride), padding=(half, half, half, half))
    graph = canonicalize(net.graph(x))
    program = compile_graph(graph, EDGE16)
    profile = agree(devices, graph, program, net.image()[None]).rtl
    (step,) = program.steps
    assert isinstance(step, RunStep)
    records = [r for r in profile.steps[0].records if r.engine == Engine.EXEC]
    execs = [i for i in step.instructions if isinstance(i, Exec)]
    assert len(records) == len(execs)
    return Compute(
        bound=sum(i.passes * max(i.vectors, EDGE16.array.rows) for i in execs),
        span=max(r.end for r in records) - min(r.start for r in records),
        busy=profile.counters["EXEC_BUSY"],
        macs=profile.macs,
        total=profile.cycles,
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "height", "width", "stride"),
    [
        (16, 16, 3, 16, 16, 1),
        (32, 48, 1, 20, 13, 1),
        (64, 32, 3, 8, 8, 1),
        (16, 16, 5, 9, 7, 1),
        (48, 16, 3, 15, 17, 2),
        # Passes of fewer vectors than the array has rows.
        (64, 64, 3, 3, 3, 1),
        (256, 32, 1, 1, 1, 1),
        # Several bands of the image, that is several instructions.
        (16, 16, 3, 60, 60, 1),
    ],
    ids=lambda n: str(n),
)
def test_no_bubble_between_passes(
    devices: Devices, inputs: int, outputs: int, kernel: int, height: int, width: int, stride: int
) -> None:
    found = run_convolution(devices, inputs, outputs, kernel, height, width, stride)
    assert found.bound <= found.busy <= found.bound + OVERHEAD
    assert found.bound <= found.span <= found.bound + OVERHEAD


@pytest.mark.slow
def test_a_layer_of_resnet_keeps_the_array_busy(devices: Devices) -> None:
    """64 to 64 channels, 3 x 3, 56 x 56: 451,584 cycles at the very best."""
    found = run_convolution(devices, 64, 64, 3, 56, 56)
    assert found.bound == 451_584
    # Image and result do not fit on chip together; LOAD, POST and STORE take a few cycles at the banks from EXEC.
    assert found.utilization(found.span) >= 0.995
    # Everything: the first band and the first weights awaited, and the last band stored.
    assert found.utilization(found.total) >= 0.99
