# SPDX-License-Identifier: Apache-2.0
"""Depthwise layers: PyTorch's integers, the simulator and the hardware agree, in every bit and every cycle."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.mapper.bench import Net
from tests.mapper.test_depthwise import KERNELS, depthwise, execs, networks
from tests.tilewright.agreement import CONFIGS, NANO4, Devices, agree
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_mapper.graph import Graph
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.rounding import with_rounding


def check(devices: Devices, net: Net, graph: Graph, cfg: AcceleratorConfig) -> int:
    """Compile and compare, on a random image and one of extremes; the number of depthwise instructions."""
    graph = with_rounding(canonicalize(graph), cfg.post.roundings[0])
    program = compile_graph(graph, cfg)
    extremes = np.where(net.image() < 0, -128, 127).astype(np.int8)
    agree(devices, graph, program, np.stack([net.image(), extremes]))
    return sum(e.depthwise for e in execs(program))


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
def test_every_kernel(cfg: AcceleratorConfig, devices: Devices) -> None:
    filters = 0
    for number, kernel in enumerate(KERNELS):
        net = Net((7, 8, 9), seed=number)
        padding = tuple(int(net.rng.integers(0, kernel[i % 2])) for i in range(4))
        stride = 1 + number % 3, 1 + number // 3 % 3
        y = depthwise(net, "input", kernel, stride=stride, padding=padding, wide=number % 4 == 3)
        filters += check(devices, net, net.graph(net.conv(y, 6)), cfg) > 0
    assert filters >= 3


@pytest.mark.parametrize("cfg", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=10)
@given(networks())
def test_random_layers(cfg: AcceleratorConfig, devices: Devices, case: tuple[Net, Graph]) -> None:
    try:
        check(devices, *case, cfg)
    except ModelError as error:
        # The smallest memories cannot hold what one pixel of a large kernel reads.
        assert "does not fit" in str(error)
        assert cfg is not NANO4
