# SPDX-License-Identifier: Apache-2.0
"""Five hundred random layers, and four networks: each cycle of each instruction on ``rtl`` is that of the model.

``TILEWRIGHT_LAYERS`` asks for another number of them. A layer is known by its configuration and its number:
``pytest "tests/tilewright/test_cycle_equality.py::test_every_cycle_of_a_random_layer[edge16-7]"``.
"""

import math
import os
import random

import numpy as np
import pytest
import torch

import tilewright as tw
from tests.mapper.bench import Net
from tests.tilewright.agreement import NANO4, TINY, WIDE, Devices, agree
from tilewright.networks import NETWORKS
from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Engine
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Conv2d, Graph, image_shape
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.pytorch.importer import import_program

COUNT = int(os.environ.get("TILEWRIGHT_LAYERS", "500"))
# Next to nothing fits the chip of the second and the third; one in five layers of the first is too large for its chip.
CONFIGS = {"edge16": PRESETS["edge16"], "tiny": TINY, "wide": WIDE, "nano4": NANO4}
SHARES = ("edge16", "edge16", "tiny", "wide", "nano4")
MOST_CYCLES = {"edge16": 12_000, "tiny": 3000, "wide": 6000, "nano4": 6000}
"""Of a layer on the array, at its peak; small memories cut it into many tiles."""
KINDS = ("conv", "conv", "pointwise", "depthwise", "depthwise", "separable", "grouped", "dilated", "first", "linear",
         "max", "average", "global", "add", "residual", "table", "pooled")


def draw(name: str, number: int) -> tuple[Graph, Program, np.ndarray]:
    """A layer, or the few that are one on the hardware; the next that the configuration can hold."""
    rng = random.Random(f"{name} {number}")
    while True:
        net = Net(_shape(rng, kind := rng.choice(KINDS), CONFIGS[name]), rng.randrange(1 << 16))
        graph = canonicalize(net.graph(_layer(rng, net, kind)))
        if _macs(graph) > MOST_CYCLES[name] * CONFIGS[name].array.pes:
            continue
        try:
            return graph, compile_graph(graph, CONFIGS[name]), net.image()[None]
        except ModelError as error:
            assert "does not fit" in str(error), error


def _macs(graph: Graph) -> int:
    """Products of the convolutions if none is grouped."""
    return sum(math.prod(graph.tensors[node.inputs[0]].shape[:1] + node.weight.shape[:1] + node.weight.shape[2:]
                         + graph.tensors[node.outputs[0]].shape[1:]) for node in graph if isinstance(node, Conv2d))


def _shape(rng: random.Random, kind: str, config: AcceleratorConfig) -> tuple[int, ...]:
    """Of the input: fewer channels than the array has rows, as many, or more; a few are larger than the chip."""
    rows, large = config.array.rows, rng.random() < 0.2
    if kind == "linear":
        return (rng.choice((rng.randint(1, 6 * rows), 1000 if large else rows)),)
    channels = rng.choice((1, 3)) if kind == "first" else rng.choice((rng.randint(1, 5 * rows), rows, 2 * rows))
    side = 24 if config is PRESETS["edge16"] else 14
    height, width = rng.randint(1, side), rng.randint(1, side)
    if large and kind not in ("grouped", "global"):
        scale = 4 if config is PRESETS["edge16"] else 2
        channels, height, width = min(channels, 2 * rows), scale * height, scale * width
    return channels, height, width


def _layer(rng: random.Random, net: Net, kind: str) -> str:
    shape = net.shape("input")
    channels, height, width = image_shape(shape)
    outputs = rng.choice((rng.randint(1, 48), 16, 32))
    match kind:
        case "linear" | "pointwise":
            return net.conv("input", outputs, stride=(1, 1) if kind == "linear" else rng.choice(((1, 1), (2, 2))))
        case "depthwise":
            return _conv(rng, net, "input", channels, groups=channels)
        case "separable":
            return net.conv(_conv(rng, net, "input", channels, groups=channels), outputs)
        case "grouped":
            groups = rng.choice([g for g in range(1, channels + 1) if channels % g == 0])
            return _conv(rng, net, "input", groups * rng.randint(1, 2), groups=groups)
        case "max" | "average":
            kernel = min(height, rng.randint(1, 3)), min(width, rng.randint(1, 3))
            stride = rng.randint(1, 3), rng.randint(1, 3)
            return (net.max_pool if kind == "max" else net.avg_pool)("input", kernel, stride)
        case "global":
            return net.avg_pool("input", (height, width), (1, 1))
        case "add":
            return net.add("input", net.table("input"))
        case "residual":
            return net.add(net.conv("input", channels, (3, 3), padding=(1, 1, 1, 1)), "input", low=-20)
        case "table":
            return net.table("input")
        case "pooled":
            return net.max_pool(_conv(rng, net, "input", outputs), (2, 2), (2, 2), (1, 1, 1, 1))
    return _conv(rng, net, "input", outputs, dilation=rng.randint(2, 3) if kind == "dilated" else 1)


def _conv(rng: random.Random, net: Net, x: str, outputs: int, *, groups: int = 1, dilation: int = 1) -> str:
    """With a kernel of any form, padded so that at least one window fits."""
    _, height, width = image_shape(net.shape(x))
    kernel = rng.choice(((3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (4, 1), (10, 4), (2, 2)))
    reach = [dilation * (k - 1) for k in kernel]
    same = [(n // 2, n - n // 2) for n in reach]
    if rng.random() < 0.3:
        same = [(0, 0) if size > n else pads for size, n, pads in zip((height, width), reach, same, strict=True)]
    (top, bottom), (left, right) = same
    return net.conv(x, outputs, kernel, stride=rng.choice(((1, 1), (1, 1), (2, 2), (3, 1))), groups=groups,
                    padding=(top, left, bottom, right), dilation=(dilation, dilation), low=rng.choice((-128, -20)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), [(SHARES[i % len(SHARES)], i) for i in range(COUNT)],
                         ids=[f"{SHARES[i % len(SHARES)]}-{i}" for i in range(COUNT)])
def test_every_cycle_of_a_random_layer(devices: Devices, name: str, number: int) -> None:
    graph, program, images = draw(name, number)
    found = agree(devices, graph, program, images)
    assert not any(layer.on == "host" for layer in program.layers)
    instructions = [i for step in program.steps if isinstance(step, RunStep) for i in step.instructions]
    records = [r for step in found.rtl.steps for r in step.records]
    assert len(records) == len(instructions)
    assert {r.engine for r in records} == {i.ENGINE for i in instructions} >= {Engine.LOAD, Engine.POST, Engine.STORE}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet18"])
def test_every_cycle_of_a_network(devices: Devices, name: str) -> None:
    """Two images, since the second finds what the first has left on chip."""
    images = torch.randn(2, *NETWORKS[name].input_shape, generator=torch.Generator().manual_seed(0))
    model = tw.quantize(NETWORKS[name].build(), [images])
    program = tw.compile(model, config=PRESETS["edge16"])
    found = agree(devices, canonicalize(import_program(model)), program, images.numpy())
    (step,) = (step for step in program.steps if isinstance(step, RunStep))
    assert sorted(r.index for s in found.rtl.steps for r in s.records) == list(range(len(step.instructions)))
