# SPDX-License-Identifier: Apache-2.0
"""Models annotated by the quantizers of ExecuTorch, and Arm's TOSA reference model as an independent oracle.

Neither package is a dependency: the tests say what to install when they skip. Their style of annotation is imitated in
``test_importer.py``, which always runs.
"""

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from tilewright_mapper.graph import AvgPool2d, Dequantize, HostOp
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pytorch.importer import import_program
from tilewright_mapper.pytorch.quantizer import convert_pt2e, prepare_pt2e
from tilewright_mapper.reference_run import reference_run

from ..builders import alone
from ..networks import NETWORKS, calibration, prepare

XNNPACK = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"
ARM = "executorch.backends.arm.quantizer"


@functools.cache
def has(*modules: str) -> bool:
    """Whether modules can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in modules:
                importlib.import_module(module)
    except ImportError:
        return False
    return True


needs_xnnpack = pytest.mark.skipif(
    not has(XNNPACK),
    reason="executorch is not installed: pip install --no-deps executorch ruamel.yaml flatbuffers tabulate",
)
needs_arm = pytest.mark.skipif(
    not has(ARM), reason="executorch's Arm back end is not installed: pip install executorch tosa-tools"
)
needs_tosa = pytest.mark.skipif(
    not has(ARM, "tosa_reference_model"),
    reason="Arm's TOSA reference model is not installed: pip install executorch tosa-tools",
)
pytestmark = pytest.mark.filterwarnings("ignore")
"""ExecuTorch warns of itself at import and while it lowers; its warnings are no fault of ours."""


def quantize_with(quantizer: Any, model: nn.Module, batch: int) -> fx.GraphModule:
    x = calibration()
    prepared = prepare_pt2e(torch.export.export(model, (x[:batch],)).module(check_guards=False), quantizer)
    for i in range(0, len(x), batch):
        prepared(x[i : i + batch])
    converted: fx.GraphModule = convert_pt2e(prepared)
    return converted


def xnnpack(model: nn.Module) -> fx.GraphModule:
    module = importlib.import_module(XNNPACK)
    config = module.get_symmetric_quantization_config(is_per_channel=True)
    return quantize_with(module.XNNPACKQuantizer().set_global(config), model, 2)


def arm(model: nn.Module) -> fx.GraphModule:
    module, tosa = importlib.import_module(ARM), importlib.import_module("executorch.backends.arm.tosa")
    quantizer = module.TOSAQuantizer(tosa.TosaSpecification.create_from_string("TOSA-1.0+INT"))
    return quantize_with(quantizer.set_global(module.get_symmetric_quantization_config()), model, 1)


class NoSoftmax(nn.Module):
    """A network without its softmax, which the TOSA quantizer would take apart."""

    def __init__(self, name: str):
        super().__init__()
        self.network = NETWORKS[name]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.network
        x = n.pool(n.block1(n.act(n.stem(x))))
        x = n.average(n.block2(n.act(n.depthwise(x))))
        y: torch.Tensor = n.fc2(n.act(n.fc1(torch.flatten(x, 1))))
        return y


QUANTIZERS: dict[str, Callable[[nn.Module], fx.GraphModule]] = {"xnnpack": xnnpack, "arm": arm}


@pytest.mark.parametrize(
    ("quantizer", "name"),
    [
        *(pytest.param("xnnpack", name, marks=needs_xnnpack) for name in ("relu", "relu6", "hardtanh")),
        *(pytest.param("arm", name, marks=needs_arm) for name in ("relu", "relu6", "silu")),
    ],
)
def test_maps_whole_and_stays_close(quantizer: str, name: str) -> None:
    program = QUANTIZERS[quantizer](prepare(NoSoftmax(name)))
    imported = import_program(program)
    graph = canonicalize(imported)
    assert [n.name for n in graph if isinstance(n, HostOp)] == []
    fake = reference_run(imported, calibration(8).numpy())
    compared = 0
    for node in graph:
        ends = [*node.inputs, *node.outputs]
        if not all(end in fake and graph.tensor(end).is_quantized for end in ends):
            continue
        ours = reference_run(alone(graph, node), tuple(fake[i] for i in node.inputs))[node.output]
        distance = np.abs(ours.astype(int) - fake[node.output])
        assert distance.max() <= 1, node.name
        # An average at its input's scale has many ties, which integers round up and float32 to even.
        assert np.mean(distance > 0) < (0.2 if isinstance(node, AvgPool2d) else 0.03), node.name
        compared += ours.size
    assert compared > 10000


@needs_tosa
@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_equals_the_tosa_reference_model(name: str) -> None:
    """Every logit of a whole network, 0 differing: Arm's lowering, Arm's integers, our integers."""
    program = arm(prepare(NoSoftmax(name)))
    graph = canonicalize(import_program(program))
    x = calibration(16).numpy()
    values = reference_run(graph, x)
    first, last = graph.nodes[0], graph.nodes[-1]
    assert isinstance(last, Dequantize)
    binary = tosa_binary(program)
    model = importlib.import_module("tosa_reference_model")
    for i in range(len(x)):
        (result,), status = model.run(binary, [values[first.outputs[0]][i : i + 1]])
        assert status == model.GraphStatus.TOSA_VALID
        logits = np.frombuffer(result.tobytes(), np.int8)
        np.testing.assert_array_equal(logits, values[last.input][i])


def tosa_binary(program: fx.GraphModule) -> bytes:
    """The program as a TOSA flatbuffer, lowered by ExecuTorch."""
    partitioner = importlib.import_module("executorch.backends.arm.tosa.partitioner")
    compile_spec = importlib.import_module("executorch.backends.arm.tosa.compile_spec")
    exir = importlib.import_module("executorch.exir")
    exported = torch.export.export(program, (calibration(1),))
    lowered = exir.to_edge_transform_and_lower(
        exported, partitioner=[partitioner.TOSAPartitioner(compile_spec.TosaCompileSpec("TOSA-1.0+INT"))]
    )
    module = lowered.exported_program().graph_module
    binaries = [
        getattr(module, node.target).processed_bytes
        for node in module.graph.nodes
        if node.op == "get_attr" and "lowered" in node.name
    ]
    assert len(binaries) == 1, "the whole network is one TOSA graph"
    binary: bytes = binaries[0]
    return binary
