# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models, and onnxruntime as the reference of their operators."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FLOAT", "INT8", "UINT8", "apply", "is_exact", "model", "node", "run", "session"]

Array = np.ndarray[Any, Any]
FLOAT, INT8, UINT8 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8
MICROSOFT = "com.microsoft"


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """One operator; ``com.microsoft`` if ONNX itself has none of that name."""
    known = onnx.defs.has(op)
    return helper.make_node(
        op, inputs, outputs, name=f"{op}_{outputs[0]}", domain="" if known else MICROSOFT, **attributes
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, int],
    constants: Mapping[str, Array | np.generic],
    *,
    opset: int = 18,
) -> bytes:
    """A model file.

    Parameters
    ----------
    inputs : mapping of name to element type and shape
    outputs : mapping of name to element type
    """
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    built = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(built.SerializeToString())


def session(data: bytes) -> onnxruntime.InferenceSession:
    """What runs a model by onnxruntime, each operator by itself."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a model by onnxruntime."""
    runs = session(data)
    names = [output.name for output in runs.get_outputs()]
    return dict(zip(names, runs.run(names, dict(feeds)), strict=True))


def apply(
    op: str, inputs: Mapping[str, Array], constants: Mapping[str, Array | np.generic], order: str, **attributes: Any
) -> Array:
    """Result of one operator from int8 to int8; ``order`` names its arguments, separated by spaces."""
    data = model(
        [node(op, order.split(), ["y"], **attributes)],
        {name: (helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for name, value in inputs.items()},
        {"y": INT8},
        constants,
    )
    return run(data, inputs)["y"]


@cache
def is_exact(dtype: str = "int8") -> bool:
    """Whether this machine's QLinearConv accumulates exactly activations of ``dtype`` times int8 weights.

    On a CPU without VNNI the kernel for uint8 saturates its sums at 16 bits.
    """
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, (2, 32, 5, 5)).astype(dtype)
    w = rng.integers(-127, 128, (16, 32, 1, 1)).astype(np.int8)
    one = np.float32(1)
    data = model(
        [node("QLinearConv", ["x", "s", "z", "w", "s", "n", "t", "m"], ["y"])],
        {"x": (helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)},
        {"y": helper.np_dtype_to_tensor_dtype(x.dtype)},
        {"s": one, "z": x.dtype.type(0), "w": w, "n": np.int8(0), "t": np.float32(4096), "m": x.dtype.type(0)},
    )
    sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), w[:, :, 0, 0].astype(np.int64))
    expected = np.clip(np.rint(sums / 4096), info.min, info.max)
    return np.array_equal(run(data, {"x": x})["y"], expected)
