# SPDX-License-Identifier: Apache-2.0
"""A network for scikit-learn's digits: trained by PyTorch, written as an ONNX file, quantized by onnxruntime."""

import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from sklearn.datasets import load_digits
from torch import nn

__all__ = ["FORMATS", "images", "quantized_digits"]

Array = np.ndarray[Any, Any]
FORMATS = ("QOperator", "QDQ", "QOperator uint8", "QDQ uint8")
TRAINING = 1300
"""Images to learn from; the others are for tests."""


class Digits(nn.Module):
    """A residual block, a depthwise layer, three kinds of pool and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.wide = nn.Conv2d(16, 24, 3, padding=1)
        self.last = nn.Conv2d(24, 32, (2, 3), padding=(0, 1))
        self.classify = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 8, 8) to (N, 10)."""
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.pointwise(torch.relu(self.depthwise(x))))
        x = torch.relu(self.wide(nn.functional.max_pool2d(x, 2)))
        x = torch.relu(self.last(nn.functional.avg_pool2d(x, 2, stride=1)))
        return self.classify(x.mean((2, 3)))


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.from_numpy(digits.images[order].astype(np.float32)).unsqueeze(1) / 16
    return x, torch.from_numpy(digits.target[order].astype(np.int64))


def images() -> tuple[Array, Array]:
    """Images (N, 1, 8, 8), float32, and classes that the network has not seen."""
    x, y = _data()
    return x[TRAINING:].numpy(), y[TRAINING:].numpy()


@cache
def _trained() -> Digits:
    torch.manual_seed(0)
    network = Digits()
    x, y = _data()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.006)
    for _ in range(30):
        for batch in torch.randperm(TRAINING).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval()


def float_model(network: Digits) -> onnx.ModelProto:
    """The network in ONNX's operators, its batch open."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def parameters(layer: str) -> tuple[str, str]:
        module = getattr(network, layer)
        names = f"{layer}.weight", f"{layer}.bias"
        for name, values in zip(names, (module.weight, module.bias), strict=True):
            weights.append(numpy_helper.from_array(values.detach().numpy(), name))
        return names

    def conv(x: str, layer: str) -> str:
        module = getattr(network, layer)
        vertical, horizontal = module.padding
        pads = [vertical, horizontal, vertical, horizontal]
        return op("Conv", x, *parameters(layer), pads=pads, group=module.groups)

    stem = op("Relu", conv("x", "stem"))
    x = op("Relu", op("Add", stem, conv(op("Relu", conv(stem, "depthwise")), "pointwise")))
    x = op("Relu", conv(op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), "wide"))
    x = op("Relu", conv(op("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1]), "last"))
    x = op("Flatten", op("GlobalAveragePool", x))
    nodes.append(helper.make_node("Gemm", [x, *parameters("classify")], ["y"], name="classify", transB=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


class _Calibration(quantization.CalibrationDataReader):
    """A hundred of the images that the network has learned from."""

    def __init__(self) -> None:
        x, _ = _data()
        self._batches = iter(x[:100].split(50))

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch.numpy()}


@cache
def quantized_digits(form: str) -> bytes:
    """The file in one of :data:`FORMATS`, per channel; int8 activations and weights unless it says uint8."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # It advises a preparation that this network does not need.
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quantized.onnx"
            quantization.quantize_static(
                float_model(_trained()),
                path,
                _Calibration(),
                quant_format=quantization.QuantFormat[form.split()[0]],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8 if "uint8" in form else quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return path.read_bytes()
    finally:
        logging.disable(logging.NOTSET)
        torch.set_num_threads(threads)
