# SPDX-License-Identifier: Apache-2.0
"""Small good ONNX models, and ways to damage the messages of one."""

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

from ..onnx.models import INT8, model, node
from ..onnx.test_qdq import CASES, Builder
from .mutations import Value, another, damage_bytes

__all__ = ["ONNX_SEEDS", "QOPERATOR", "damage_messages"]

Array = np.ndarray[Any, Any]
NAMES_SHARE = 0.15
"""Of the changes; most other names make no model."""

X = {"sx": np.float32(0.05), "zx": np.int8(-7)}
Y = {"sy": np.float32(0.2), "zy": np.int8(5)}
W = {"sw": np.float32(0.01), "zw": np.int8(0)}


def single(
    op: str, order: str, shapes: Mapping[str, tuple[int, ...]], numbers: Mapping[str, Any], **named: Any
) -> bytes:
    """Model of one operator on integers."""
    inputs = {name: (INT8, [1, *shape]) for name, shape in shapes.items()}
    return model([node(op, order.split(), ["y"], **named)], inputs, {"y": INT8}, numbers)


def weights(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).integers(-127, 128, shape).astype(np.int8)


def convolution() -> bytes:
    numbers = {**X, **Y, "w": weights(5, 3, 3, 3), "sw": np.linspace(0.01, 0.03, 5, dtype=np.float32)}
    numbers |= {"zw": np.zeros(5, np.int8), "b": np.arange(-500, 500, 200, dtype=np.int32)}
    order = "x sx zx w sw zw sy zy b"
    return single("QLinearConv", order, {"x": (3, 6, 7)}, numbers, pads=[1, 1, 0, 1], strides=[2, 1])


def chain() -> bytes:
    """Convolution, pooling, reshape and product."""
    numbers: dict[str, Any] = {**X, **Y, **W, "w": weights(4, 3, 3, 3), "v": weights(16, 5), "shape": np.array([0, -1])}
    nodes = [
        node("QLinearConv", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"], ["a"]),
        node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["b", "shape"], ["c"]),
        node("QGemm", ["c", "sy", "zy", "v", "sw", "zw", "", "sy", "zy"], ["y"]),
    ]
    return model(nodes, {"x": (INT8, [1, 3, 6, 6])}, {"y": INT8}, numbers)


DENSE = {**X, **Y, **W, "w": weights(12, 5)}
IMAGE = {"x": (3, 4, 5)}
PAIR = {"a": (3, 4, 5), "b": (3, 4, 5)}

QOPERATOR: dict[str, Callable[[], bytes]] = {
    "conv": convolution,
    "chain": chain,
    "matmul": lambda: single("QLinearMatMul", "x sx zx w sw zw sy zy", {"x": (12,)}, DENSE),
    "gemm": lambda: single(
        "QGemm", "x sx zx w sw zw b sy zy", {"x": (12,)},
        DENSE | {"b": np.arange(5, dtype=np.int32)}, alpha=1.0, transB=0,
    ),
    "add": lambda: single("QLinearAdd", "a sx zx b sy zy sy zy", PAIR, {**X, **Y}),
    "mul": lambda: single("QLinearMul", "a sx zx b sy zy sy zy", PAIR, {**X, **Y}),
    "global average": lambda: single("QLinearGlobalAveragePool", "x sx zx sy zy", IMAGE, {**X, **Y}, channels_last=0),
    "concat": lambda: single("QLinearConcat", "sy zy a sx zx b sy zy", PAIR, {**X, **Y}, axis=1),
    "sigmoid": lambda: single("QLinearSigmoid", "x sx zx sy zy", IMAGE, {**X, **Y}),
    "leaky relu": lambda: single("QLinearLeakyRelu", "x sx zx sy zy", IMAGE, {**X, **Y}, alpha=0.2),
}  # fmt: skip
"""Operators on integers."""


def between_borders(name: str) -> bytes:
    """A case of the tests of float operators between QuantizeLinear and DequantizeLinear."""
    build, shape, _ = CASES[name]
    builder = Builder()
    return builder.bytes(build(builder), shape)


ONNX_SEEDS: dict[str, Callable[[], bytes]] = {
    **QOPERATOR,
    **{f"float {name}": partial(between_borders, name) for name in CASES},
}


def damage_messages(rng: random.Random, data: bytes) -> bytes:
    """Change one to three numbers, names or arrays of a good ONNX file's messages."""
    proto = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        values = list(_values(proto.graph, "graph")) or list(_values(proto, ""))
        names = [value for value in values if isinstance(value.now, str)]
        value = rng.choice(names if rng.random() < NAMES_SHARE else [v for v in values if v not in names] or values)
        if isinstance(value.now, bytes):
            value.put(_elements(rng, value.now))
        elif isinstance(value.now, str):
            value.put(rng.choice((*(other.now for other in names), "", "other")))
        else:
            _put_number(rng, value)
    return bytes(proto.SerializeToString())


def _elements(rng: random.Random, data: bytes) -> bytes:
    """Elements of a constant; mostly as many as there were."""
    if rng.random() < 0.2 or not data:
        return damage_bytes(rng, data)
    if len(data) % 4 == 0 and rng.random() < 0.5:
        floats = np.frombuffer(data, "<f4").copy()
        place = rng.randrange(len(floats))
        with np.errstate(over="ignore"):
            floats[place] = np.float32(another(rng, float(floats[place])))
        return floats.tobytes()
    place = rng.randrange(len(data))
    return data[:place] + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))]) + data[place + 1 :]


def _put_number(rng: random.Random, value: Value) -> None:
    try:
        value.put(another(rng, value.now))
    except (ValueError, TypeError):
        value.put(type(value.now)(1))  # The field has no room for the other number.


def _values(message: Message, path: str) -> Iterator[Value]:
    """All set fields below a message that are numbers, bytes or text."""
    for field, item in message.ListFields():
        here = f"{path}.{field.name}"
        items = list(item) if field.is_repeated else [item]
        for index, each in enumerate(items):
            if isinstance(each, Message):
                yield from _values(each, here)
            elif field.is_repeated:
                yield Value(here, each, partial(item.__setitem__, index))
            else:
                yield Value(here, each, partial(setattr, message, field.name))
