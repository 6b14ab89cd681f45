# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tilewright_hdl.errors import ModelError
from tilewright_mapper.graph import Conv2d, HostOp, Linear
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pytorch.importer import import_program
from tilewright_mapper.pytorch.quantizer import ArrayQuantizer, quantize

from ..networks import IMAGE, NETWORKS, ResidualCnn, calibration, prepare, quantized


def operators(name: str) -> list[str]:
    return [n.op for n in canonicalize(import_program(quantized(name)))]


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh"])
def test_a_clamped_residual_network_maps_whole(name: str) -> None:
    """Each clamp is in the node before it; only the softmax is left to the host."""
    assert operators(name) == [
        *(
            "Quantize",
            "Conv2d",
            "Conv2d",
            "Conv2d",
            "Add",
            "MaxPool2d",
            "Conv2d",
            "Conv2d",
            "Conv2d",
            "Add",
            "AvgPool2d",
        ),
        *("Conv2d", "Conv2d", "Dequantize", "HostOp"),
    ]


@pytest.mark.parametrize("name", ["silu", "hardswish"])
def test_other_activations_become_tables(name: str) -> None:
    found = operators(name)
    assert found.count("Table") == 7
    assert found.count("HostOp") == 1
    assert found.count("Dequantize") == 1


def test_activations_written_out_become_tables() -> None:
    assert operators("hand") == [
        *("Quantize", "Conv2d", "Table", "Conv2d", "Add", "Conv2d", "Table", "AvgPool2d", "Conv2d", "Dequantize"),
    ]


def test_tokens() -> None:
    g = canonicalize(import_program(quantized("tokens")))
    assert [n.op for n in g if n.op not in ("Quantize", "Dequantize", "Reshape")] == [
        *("HostOp", "Conv2d", "Conv2d", "Table", "Conv2d", "Add", "AvgPool2d", "HostOp", "Conv2d"),
    ]
    assert [n.target for n in g if isinstance(n, HostOp)] == ["aten.reshape.default", "aten.layer_norm.default"]


def test_weights_and_biases_are_integers_in_range() -> None:
    for node in import_program(quantized("relu")):
        if isinstance(node, HostOp):
            assert all(not isinstance(c, np.ndarray) or c.dtype != np.float32 for c in node.constants.values())
    for node in canonicalize(import_program(quantized("relu"))):
        if isinstance(node, Conv2d | Linear):
            assert np.abs(node.weight).max() == 127
            assert node.weight.min() >= -127


def test_predictions_stay() -> None:
    model, x = prepare(NETWORKS["relu"]()), calibration(64)
    fake = quantized("relu").module()(x)
    assert (fake.argmax(1) == model(x).argmax(1)).float().mean() > 0.9


def test_minmax_observer() -> None:
    program = quantize(prepare(ResidualCnn()), [calibration(8)], observer="minmax")
    (first, *_) = import_program(program)
    scale, _ = import_program(program).tensor(first.output).quantization
    x = calibration(8)
    assert scale == pytest.approx(float(x.max() - x.min()) / 255)


def test_batches_are_read_once_and_may_be_tuples() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(3, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(y)

    batches = iter([(torch.randn(5, 6), torch.randn(5, 3)) for _ in range(3)])
    g = canonicalize(import_program(quantize(Two().eval(), batches)))
    assert [n.op for n in g] == ["Quantize", "Quantize", "Conv2d", "Conv2d", "Add", "Dequantize"]
    assert g.inputs == ("x", "y")


def test_a_model_that_fixes_its_batch_is_exported_with_one_image() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(144, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.reshape(int(x.shape[0]), 144))

    program = quantize(Fixed().eval(), [calibration(3)])
    shapes = [n.meta["val"].shape[0] for n in program.graph.nodes if n.name == "x"]
    assert shapes == [1]
    assert program.module()(calibration(1)).shape == (1, 4)


def test_the_result_is_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(quantized("relu"), path)
    assert canonicalize(import_program(path)) == canonicalize(import_program(quantized("relu")))


def test_errors() -> None:
    model = prepare(ResidualCnn())
    with pytest.raises(ValueError, match="model must be in evaluation mode"):
        quantize(ResidualCnn(), [calibration()])
    with pytest.raises(ValueError, match="at least one batch"):
        quantize(model, [])
    with pytest.raises(ValueError, match="Batch 1 of calibration must be finite"):
        quantize(model, [calibration(2), torch.full((2, *IMAGE), float("nan"))])
    with pytest.raises(ValueError, match=r"Batch 0 of calibration must hold at least one input.*\(0, 1, 12, 12\)"):
        quantize(model, [calibration(4)[:0]])
    with pytest.raises(TypeError, match=r"Batch 0 .* not list; .*for x, _ in loader"):
        quantize(model, [[calibration(), torch.zeros(32)]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        quantize(lambda x: x, [calibration()])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="observer must be one of histogram, minmax, not 'kl'"):
        ArrayQuantizer("kl")
    with pytest.raises(ModelError, match=r"exportable by torch\.export for inputs of shapes \[\(1, 3, 5, 5\)\]"):
        quantize(model, [torch.zeros(2, 3, 5, 5)])


def test_importing_is_silent() -> None:
    """torchao writes two notes to the log when it is imported; ours does not, and no warning is an error."""
    code = "import tilewright_mapper.pytorch.quantizer, sys; sys.exit('torchao' not in sys.modules)"
    paths = [str(Path(__file__).parents[3] / room) for room in ("hdl", "sim", "mapper")]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "")
