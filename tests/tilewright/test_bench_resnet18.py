# SPDX-License-Identifier: Apache-2.0
"""ResNet-18: as a whole on the instruction-set simulator, and layer by layer on the generated hardware.

Each layer is compiled by itself and runs on both: every output equals the reference, and every instruction takes the
cycles that were predicted.
"""

from typing import Any

import numpy as np
import pytest

from tests.tilewright.agreement import Devices, agree
from tests.tilewright.test_bench_record import StaleRecord, check_equal, compare
from tilewright.bench import measure, prepare
from tilewright.bench_record import CONFIG, read_record
from tilewright.networks import NETWORKS
from tilewright_hdl.config import load_config
from tilewright_hdl.program import Program
from tilewright_mapper.frontend import load_model
from tilewright_mapper.graph import Graph
from tilewright_mapper.pipeline import compile_graph

LAYERS = {
    "stem.conv": "7x7 on 3 channels",
    "pool": "max pool",
    "blocks.0.layer2.conv": "3x3 with a residual add",
    "blocks.2.layer1.conv": "3x3 of stride 2",
    "blocks.2.shortcut.conv": "1x1 of stride 2",
    "blocks.4.shortcut.conv": "1x1 of stride 2, more channels",
    "blocks.6.layer1.conv": "3x3 of stride 2, weights that stream",
    "blocks.7.layer1.conv": "3x3, weights that stream",
    "average": "average pool",
    "classify": "linear",
}
"""A node of each layer that runs on the hardware, and what it is; two may be of one layer."""

SAME_TILES = 6
"""Layers that must have the tiles that they have in the network; others may have more room when they are alone."""


@pytest.mark.slow
@pytest.mark.filterwarnings(f"default::{StaleRecord.__module__}.StaleRecord")
def test_resnet18(devices: Devices) -> None:
    prepared = prepare(NETWORKS["resnet18"], load_config(CONFIG), quiet=True)
    graph = load_model(prepared.quantized).for_hardware()
    layers = [layer_with(prepared.program, node) for node in LAYERS]
    layers = [layer for number, layer in enumerate(layers) if layer not in layers[:number]]
    same = sum(run_alone(devices, graph, layer)["tile"] == layer["tile"] for layer in layers)
    assert same >= SAME_TILES
    # But for the ends, which leave rows of the array or cycles unused.
    for middle in prepared.program.layers[1:-1]:
        if middle.macs:
            assert middle.macs / prepared.program.config.array.pes / middle.predicted_cycles > 0.95, middle
    found = measure(prepared, "iss", quiet=True)
    check_equal(found)
    compare(found, read_record()["resnet18"])


def layer_with(program: Program, node: str) -> dict[str, Any]:
    """Report of the layer that computes a node."""
    (found,) = (layer for step in program.report["steps"] for layer in step["layers"] if node in layer["nodes"])
    return found  # type: ignore[no-any-return]


def run_alone(devices: Devices, graph: Graph, layer: dict[str, Any]) -> dict[str, Any]:
    """Compile a layer by itself and run it on both devices; gives its report."""
    alone = part(graph, layer["nodes"])
    program = compile_graph(alone, load_config(CONFIG), strict=True, name=layer["name"])
    (report,) = (found for step in program.report["steps"] for found in step["layers"])
    assert report["nodes"] == layer["nodes"]
    rng = np.random.default_rng(0)
    shapes = (alone.tensor(name).shape for name in alone.inputs)
    found = agree(devices, alone, program, *(rng.integers(-128, 128, (1, *shape)).astype(np.int8) for shape in shapes))
    assert found.rtl.cycles == program.predicted_cycles
    return report  # type: ignore[no-any-return]


def part(graph: Graph, names: list[str]) -> Graph:
    """Some nodes of a network as a network."""
    nodes = tuple(node for node in graph if node.name in names)
    made = [name for node in nodes for name in node.outputs]
    read = [name for node in nodes for name in node.inputs]
    wanted = {name for node in graph if node not in nodes for name in node.inputs} | {*graph.outputs}
    return Graph(
        nodes=nodes, tensors={name: graph.tensors[name] for name in (*read, *made)},
        inputs=tuple(dict.fromkeys(name for name in read if name not in made)),
        outputs=tuple(name for name in made if name in wanted),
    )
