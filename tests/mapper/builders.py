# SPDX-License-Identifier: Apache-2.0
"""Short ways to write graphs down."""

from typing import Any

import numpy as np

from tilewright_mapper.graph import Conv2d, Dequantize, Graph, HostOp, Linear, Node, Quantize, QuantizedConstant, Tensor


def int8(name: str, *shape: int, scale: float = 0.125, zero_point: int = -3) -> Tensor:
    return Tensor(name=name, shape=shape, dtype="int8", scale=scale, zero_point=zero_point)


def real(name: str, *shape: int) -> Tensor:
    return Tensor(name=name, shape=shape, dtype="float32")


def graph(
    tensors: list[Tensor], nodes: list[Node], *, inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("y",)
) -> Graph:
    return Graph(nodes=tuple(nodes), tensors={t.name: t for t in tensors}, inputs=inputs, outputs=outputs)


def alone(graph: Graph, node: Node) -> Graph:
    """The graph of one node."""
    tensors = {name: graph.tensor(name) for name in (*node.inputs, *node.outputs)}
    return Graph(nodes=(node,), tensors=tensors, inputs=node.inputs, outputs=node.outputs)


def quantize(source: str, target: str, **options: Any) -> Quantize:
    return Quantize(name=f"{target}.q", inputs=(source,), outputs=(target,), **options)


def dequantize(source: str, target: str) -> Dequantize:
    return Dequantize(name=f"{target}.dq", inputs=(source,), outputs=(target,))


def host(name: str, target: str, inputs: tuple[str, ...], output: str, *args: Any, **fields: Any) -> HostOp:
    """Host operator whose first arguments are its inputs."""
    references = tuple({"tensor": i} for i in inputs)
    return HostOp(name=name, inputs=inputs, outputs=(output,), target=target, args=(*references, *args), **fields)


def constant(values: np.ndarray[Any, Any], scale: float = 0.01) -> QuantizedConstant:
    """Symmetric constant with one scale for each index of axis 0."""
    n = values.shape[0]
    return QuantizedConstant(
        values=values, scale=np.full(n, scale) * (1 + np.arange(n)), zero_point=np.zeros(n, np.int64), axis=0
    )


def conv(name: str, source: str, target: str, weight: np.ndarray[Any, Any], **options: Any) -> Conv2d:
    n = weight.shape[0]
    bias = options.pop("bias", np.arange(n, dtype=np.int32))
    scale = options.pop("weight_scale", np.full(n, 0.01) * (1 + np.arange(n)))
    return Conv2d(
        name=name, inputs=(source,), outputs=(target,), weight=weight, bias=bias, weight_scale=scale, **options
    )


def linear(name: str, source: str, target: str, weight: np.ndarray[Any, Any], **options: Any) -> Linear:
    n = weight.shape[0]
    return Linear(
        name=name,
        inputs=(source,),
        outputs=(target,),
        weight=weight,
        bias=np.arange(n, dtype=np.int32),
        weight_scale=np.full(n, 0.01) * (1 + np.arange(n)),
        **options,
    )


def weights(*shape: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def images(*shape: int, seed: int = 2, spread: float = 4.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Float images around zero, batch first."""
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


def integers(*shape: int, seed: int = 3) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
