# SPDX-License-Identifier: Apache-2.0
"""A good TFLite file, copies of it with something changed, and the check that one is refused as it must be."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest

from tilewright_hdl.errors import ModelFileError
from tilewright_mapper.tflite.file import read_tflite

from .models import ModelBuilder, schema

__all__ = [
    "WEIGHT",
    "buffer",
    "changed",
    "good",
    "graph",
    "operator",
    "option",
    "quantization",
    "refused",
    "tensor",
    "whole",
]

WEIGHT = np.random.default_rng(0).integers(-127, 128, (3, 3, 3, 2))

Change = Callable[[Any], None]
"""Changes an unpacked model; ``model.subgraphs[0]`` is its graph."""


def network() -> ModelBuilder:
    """Convolution and softmax: tensors 0 input, 1 weights, 2 bias, 3 between, 4 output."""
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "int8", scale=0.5, zero_point=3, name="x")
    w = model.tensor(WEIGHT.shape, "int8", scale=[0.25, 0.5, 0.75], data=WEIGHT, name="w")
    b = model.tensor((3,), "int32", scale=[0.125, 0.25, 0.375], data=[5, -6, 7], name="b")
    y = model.tensor((1, 2, 2, 3), "int8", scale=0.5, zero_point=-5, name="y")
    z = model.tensor((1, 2, 2, 3), "int8", scale=1 / 256, zero_point=-128, name="z")
    model.op("CONV_2D", [x, w, b], [y], stride_h=2, stride_w=2, padding="SAME", fused_activation_function="RELU")
    model.op("SOFTMAX", [y], [z], beta=1.5)
    return model


def good() -> bytes:
    return network().bytes([0], [4])


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def changed(change: Change) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(bytearray(good()), 0)
    change(model)
    return packed(model)


def refused(data: bytes) -> str:
    """The error's text, after a check of how long and how much memory it took."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ModelFileError) as error:
            read_tflite(data)
        seconds, memory = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 5  # A second without the trace of memory, which takes most of it.
    assert memory < 32 * len(data) + (1 << 20)
    return str(error.value)


def tensor(index: int, **fields: Any) -> Change:
    return _fields(lambda model: model.subgraphs[0].tensors[index], fields)


def quantization(index: int, **fields: Any) -> Change:
    return _fields(lambda model: model.subgraphs[0].tensors[index].quantization, fields)


def buffer(index: int, **fields: Any) -> Change:
    """Of the tensor's buffer."""
    return _fields(lambda model: model.buffers[model.subgraphs[0].tensors[index].buffer], fields)


def operator(index: int, **fields: Any) -> Change:
    return _fields(lambda model: model.subgraphs[0].operators[index], fields)


def option(index: int, **fields: Any) -> Change:
    return _fields(lambda model: model.subgraphs[0].operators[index].builtinOptions, fields)


def graph(**fields: Any) -> Change:
    return _fields(lambda model: model.subgraphs[0], fields)


def whole(**fields: Any) -> Change:
    return _fields(lambda model: model, fields)


def _fields(find: Callable[[Any], Any], fields: dict[str, Any]) -> Change:
    def change(model: Any) -> None:
        target = find(model)
        for name, value in fields.items():
            assert hasattr(target, name)
            setattr(target, name, value)

    return change
