# SPDX-License-Identifier: Apache-2.0
"""Importing programs of every style, written here with PT2E's own operators."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch import nn
from torch.export import Dim, ExportedProgram

from tilewright_hdl.errors import ModelError
from tilewright_mapper.graph import AvgPool2d, Conv2d, Dequantize, Graph, HostOp, Quantize, QuantizedConstant, Reshape
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pytorch.importer import import_program
from tilewright_mapper.reference_run import reference_run

from ..networks import IMAGE, NETWORKS, calibration, prepare, quantized

QD = torch.ops.quantized_decomposed


def q(
    x: torch.Tensor, scale: float, zero_point: int, low: int = -128, high: int = 127, dtype: torch.dtype = torch.int8
) -> torch.Tensor:
    """Quantize and dequantize."""
    y = QD.quantize_per_tensor(x, scale, zero_point, low, high, dtype)
    return QD.dequantize_per_tensor(y, scale, zero_point, low, high, dtype)


class Program(nn.Module):
    """A function of an input and two layers' parameters, to be exported as it is."""

    def __init__(self, function: Callable[["Program", torch.Tensor], Any]):
        super().__init__()
        self.function = function
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("w", torch.randint(-127, 128, (6, 2, 3, 3), generator=generator).to(torch.int8))
        self.register_buffer("s", torch.rand(6, generator=generator, dtype=torch.float64) * 0.01 + 0.001)
        self.register_buffer("z", torch.zeros(6, dtype=torch.int64))
        self.bias = nn.Parameter(torch.randn(6, generator=generator))

    def weight(self) -> torch.Tensor:
        return QD.dequantize_per_channel(self.w, self.s, self.z, 0, -127, 127, torch.int8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def export(function: Callable[[Program, torch.Tensor], Any], *, batch: int | None = None) -> ExportedProgram:
    """Program of a function, with a dynamic batch unless one is given."""
    x = torch.randn(batch or 2, 2, 6, 6, generator=torch.Generator().manual_seed(5))
    shapes = None if batch else ({0: Dim("b", min=1, max=64)},)
    return torch.export.export(Program(function).eval(), (x,), dynamic_shapes=shapes)


def check(program: ExportedProgram, *, rate: float = 0.01, step: float | None = None) -> Graph:
    """Canonical graph; the imported one gives the program's own results, this one is one step away at most.

    A step is the scale of the last int8 tensor, unless given.
    """
    imported = import_program(program)
    graph = canonicalize(imported)
    x = torch.randn(16, 2, 6, 6, generator=torch.Generator().manual_seed(6))
    expected = torch.cat([program.module(check_guards=False)(x[i : i + 1]) for i in range(16)]).detach().numpy()
    np.testing.assert_array_equal(reference_run(imported, x.numpy())[imported.outputs[0]], expected)
    last = graph.producers()[graph.outputs[0]]
    got = reference_run(graph, x.numpy())[graph.outputs[0]]
    if isinstance(last, Dequantize):
        step, _ = graph.tensor(last.input).quantization
    assert step is not None
    assert np.abs(got - expected).max() <= step * 1.01
    assert np.mean(np.abs(got - expected) > step / 2) <= rate
    return graph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph]


def conv(self: Program, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return nn.functional.conv2d(x, self.weight(), self.bias if bias is None else bias, 1, 1)


BORDER = ["Quantize"], ["Dequantize"]
STYLES: dict[str, tuple[Callable[[Program, torch.Tensor], torch.Tensor], list[str]]] = {
    "float bias": (lambda s, x: q(conv(s, q(x, 0.03, 4)), 0.05, -7), ["Conv2d"]),
    "no bias": (lambda s, x: q(nn.functional.conv2d(q(x, 0.03, 4), s.weight()), 0.05, -7), ["Conv2d"]),
    "relu behind the convolution": (lambda s, x: q(torch.relu(conv(s, q(x, 0.03, 4))), 0.03, -128), ["Conv2d"]),
    "relu quantized apart, same scale": (
        lambda s, x: q(torch.relu(q(conv(s, q(x, 0.03, 4)), 0.05, -7)), 0.05, -7),
        ["Conv2d"],
    ),
    "relu quantized apart, other scale": (
        lambda s, x: q(torch.relu(q(conv(s, q(x, 0.03, 4)), 0.0513, -7)), 0.0331, -128),
        ["Conv2d", "Requantize"],
    ),
    "two quantizations in a row": (
        lambda s, x: q(q(conv(s, q(x, 0.03, 4)), 0.0513, -7), 0.0771, 5),
        ["Conv2d", "Requantize"],
    ),
    "narrow range of activations": (lambda s, x: q(conv(s, q(x, 0.03, 0, -127)), 0.05, 0, -127), ["Conv2d"]),
    "unsigned activations": (
        lambda s, x: q(conv(s, q(x, 0.03, 130, 0, 255, torch.uint8)), 0.05, 120, 0, 255, torch.uint8),
        ["Conv2d"],
    ),
    "pool and flatten not quantized": (
        lambda s, x: q(nn.functional.max_pool2d(torch.relu(conv(s, q(x, 0.03, 4))), 6).flatten(1), 0.05, -128),
        ["Conv2d", "MaxPool2d", "Reshape"],
    ),
    "hard tanh by clamp": (lambda s, x: q(torch.clamp(conv(s, q(x, 0.03, 4)), -1.0, 2.0), 0.02, -40), ["Conv2d"]),
    "pad with a quantization of its own": (
        lambda s, x: q(conv(s, q(nn.functional.pad(q(x, 0.03, 4), (1, 0, 0, 2)), 0.03, 4)), 0.05, -7),
        ["Conv2d"],
    ),
    "residual in place": (
        lambda s, x: q(
            q(torch.cat([x, x, x], 1), 0.03, 4).add_(q(conv(s, q(x, 0.03, 4)), 0.05, -7)).relu_(), 0.0613, -128
        ),
        ["Add"],
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_styles_of_annotation(style: str) -> None:
    function, middle = STYLES[style]
    graph = check(export(function), rate=0.02)
    if style == "residual in place":
        assert [n.op for n in graph if n.op in ("Conv2d", "Add", "HostOp")] == ["HostOp", "Conv2d", "Add"]
        return
    assert ops(graph) == ["Quantize", *middle, "Dequantize"]
    first, last = graph.nodes[0], graph.producers()[graph.nodes[-1].input]
    assert isinstance(first, Quantize)
    if style == "narrow range of activations":
        assert (first.low, getattr(last, "low", None)) == (-127, -127)
    if style == "pad with a quantization of its own":
        assert isinstance(last, Conv2d)
        assert last.padding == (1, 2, 3, 1)


def test_one_weight_scale_for_the_whole_tensor() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        w = QD.dequantize_per_tensor(self.w, 0.004, 0, -127, 127, torch.int8)
        return q(nn.functional.conv2d(q(x, 0.03, 4), w, self.bias), 0.05, -7)

    graph = check(export(function))
    (node,) = [n for n in graph if isinstance(n, Conv2d)]
    np.testing.assert_array_equal(node.weight_scale, np.full(6, 0.004))


def test_weights_that_are_quantized_in_the_graph() -> None:
    """As with ``convert_pt2e(fold_quantize=False)``."""

    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        w = QD.quantize_per_channel(self.w.float() * 0.01, self.s, self.z, 0, -127, 127, torch.int8)
        w = QD.dequantize_per_channel(w, self.s, self.z, 0, -127, 127, torch.int8)
        return q(nn.functional.conv2d(q(x, 0.03, 4), w, self.bias), 0.5, -7)

    assert ops(check(export(function))) == ["Quantize", "Conv2d", "Dequantize"]


def test_what_is_not_mapped_runs_on_the_host_and_is_named() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        y = q(conv(self, q(x, 0.03, 4)), 0.05, -7)
        a, b = torch.split(y, 3, 1)
        y = torch.cat([torch.softmax(a, 1), b * 2.0], 1).transpose(2, 3)
        return y.reshape(y.shape[0], 6, 36)

    graph = check(export(function), step=2 * 0.05)
    assert ops(graph)[:3] == ["Quantize", "Conv2d", "Dequantize"]
    assert [n.target for n in graph if isinstance(n, HostOp)] == [
        *("aten.split.Tensor", "aten.softmax.int", "aten.mul.Tensor", "aten.cat.default", "aten.transpose.int"),
        "aten.reshape.default",
    ]
    split = next(n for n in graph if isinstance(n, HostOp))
    assert len(split.outputs) == 2


def test_a_batch_that_moves_stays_right() -> None:
    """A reshape that mixes batch and heads, as attention has it, holds for one image at a time."""

    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        y = q(x, 0.03, 4).reshape(x.shape[0] * 2, 36).softmax(1)
        return y.reshape(x.shape[0], 2, 36).transpose(0, 1).transpose(0, 1)

    graph = check(export(function), step=0.0)
    shapes = {graph.tensor(n.output).batched for n in graph if isinstance(n, HostOp)}
    assert shapes == {True, False}


def test_int16_activations_stay_on_the_host() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        y = q(conv(self, q(x, 0.03, 4)), 0.05, -7)
        return q(y * 2, 0.0001, 0, -32767, 32767, torch.int16)

    graph = check(export(function), step=2 * 0.05)
    assert [n.target.split(".")[1] for n in graph if isinstance(n, HostOp)] == [
        *("mul", "quantize_per_tensor", "dequantize_per_tensor"),
    ]


def test_a_fixed_batch_becomes_one_image() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        return q(conv(self, q(x, 0.03, 4)), 0.05, -7).view(4, 216).softmax(1)

    graph = canonicalize(import_program(export(function, batch=4)))
    assert graph.tensor(graph.inputs[0]).shape == (2, 6, 6)
    assert graph.tensor(graph.outputs[0]).shape == (216,)


def test_a_batch_fixed_for_good_is_refused() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        return q(conv(self, q(x, 0.03, 4)), 0.05, -7).permute(1, 0, 2, 3).reshape(6, 144)

    with pytest.raises(ModelError, match=r"run on a batch of one image.*dynamic batch"):
        import_program(export(function, batch=4))


def test_names_and_provenance() -> None:
    graph = canonicalize(import_program(quantized("relu")))
    by_name = {n.name: n for n in graph}
    conv1 = by_name["block1.conv1"]
    assert conv1.provenance.module == "block1.conv1"
    assert conv1.provenance.operators[:2] == ("aten.conv2d.default", "aten.relu.default")
    assert isinstance(by_name["average"], AvgPool2d)
    assert {"stem", "depthwise", "block2.conv2", "block2.add", "fc1", "fc2", "pool"} <= by_name.keys()


def test_graph_modules_and_files_give_the_same_graph(tmp_path: Path) -> None:
    program = quantized("hand")
    torch.export.save(program, tmp_path / "model.pt2")
    graph = import_program(program)
    assert graph == import_program(str(tmp_path / "model.pt2"))
    assert graph == import_program(program.module(check_guards=False))
    assert graph == import_program(program.module())


def test_constants_are_copies() -> None:
    program = export(lambda s, x: q(conv(s, q(x, 0.03, 4)), 0.05, -7))
    graph = import_program(program)
    (node,) = [n for n in graph if isinstance(n, HostOp)]
    (weight,) = [c for c in node.constants.values() if isinstance(c, QuantizedConstant)]
    before = weight.values.copy()
    program.state_dict["w"].zero_()
    np.testing.assert_array_equal(weight.values, before)


def test_a_free_reshape_is_kept() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.adaptive_avg_pool2d(q(conv(self, q(x, 0.03, 4)), 0.05, -7), 1)
        y = q(q(y, 0.0212, 3).flatten(1), 0.0212, 3)
        return q(y + y, 0.04131, 3)

    graph = check(export(function), rate=0.05)
    assert ops(graph) == ["Quantize", "Conv2d", "AvgPool2d", "Reshape", "Add", "Dequantize"]
    assert any(isinstance(n, Reshape) for n in graph)


def unquantized(self: Program, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.conv2d(x, self.w.float())


REFUSED: list[tuple[str, type[Exception], Callable[[], Any]]] = [
    (r"must be quantized to int8.*tilewright\.quantize", ModelError, lambda: export(unquantized)),
    (r"not a float ResidualCnn: quantize it", ModelError, lambda: prepare(NETWORKS["relu"]())),
    ("source must be an ExportedProgram", TypeError, lambda: 42),
    ("drops at random: call model.eval", ModelError,
     lambda: export(lambda s, x: nn.functional.dropout(q(x, 0.1, 0), 0.5, training=True))),
    ("takes statistics of the batch", ModelError,
     lambda: export(lambda s, x: nn.functional.batch_norm(q(x, 0.1, 0), torch.zeros(2), torch.ones(2), training=True))),
    ("must be dequantized with the scale and zero point", ModelError, lambda: export(
        lambda s, x: QD.dequantize_per_tensor(
            QD.quantize_per_tensor(x, 0.1, 0, -128, 127, torch.int8), 0.2, 0, -128, 127, torch.int8))),
    ("control flow and custom functions have to go", ModelError, lambda: export(
        lambda s, x: torch.cond(q(x, 0.1, 0).sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)))),
    ("output of the model must be a tensor that depends on its input", ModelError,
     lambda: export(lambda s, x: (q(x, 0.1, 0), s.bias + 1))),
]  # fmt: skip


@pytest.mark.parametrize(("says", "kind", "make"), REFUSED, ids=[says[:30] for says, _, _ in REFUSED])
def test_refused(says: str, kind: type[Exception], make: Callable[[], Any]) -> None:
    with pytest.raises(kind, match=says):
        import_program(make())


def test_dynamic_sizes_are_refused() -> None:
    program = torch.export.export(
        Program(lambda s, x: q(x, 0.1, 0)), (torch.randn(2, 2, 6, 6),), dynamic_shapes=({0: Dim("b"), 2: Dim("h")},)
    )
    with pytest.raises(ModelError, match="Axis 2 of input 'x' must have a fixed size"):
        import_program(program)


def test_an_aliased_write_is_refused() -> None:
    def function(self: Program, x: torch.Tensor) -> torch.Tensor:
        y = q(x, 0.1, 0) + 1
        view = y.view(-1, 72)
        y.relu_()
        return view

    with pytest.raises(ModelError, match="overwrites memory that 'view' still shows"):
        import_program(export(function))


def test_inputs_without_a_batch_are_refused() -> None:
    program = torch.export.export(Program(lambda s, x: q(x, 0.1, 0)), (torch.tensor(1.0),))
    with pytest.raises(ModelError, match="must have the batch as its first axis, but is a scalar"):
        import_program(program)


def test_the_networks_take_images() -> None:
    assert calibration(2).shape == (2, *IMAGE)
