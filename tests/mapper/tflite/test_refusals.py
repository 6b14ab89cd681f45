# SPDX-License-Identifier: Apache-2.0
"""The importer of TFLite files: what is left out, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")

from tilewright_hdl.errors import ModelError, ModelFileError
from tilewright_mapper.graph import (
    Graph,
    Unsupported,
)
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.tflite.importer import import_tflite

from .changes import Change, changed, good, option, quantization, tensor
from .models import ModelBuilder
from .small import INT8, binary, fully_connected, single

# --- What is left out.


def left_out(graph: Graph) -> list[Unsupported]:
    return [node for node in graph if isinstance(node, Unsupported)]


def test_everything_that_is_not_served_is_found_at_once() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "float32", name="x")
    a = model.tensor((1, 4, 4, 2), "float32", name="a")
    b = model.tensor((1, 4, 4, 2), "float32", name="b")
    q = model.tensor((1, 4, 4, 2), "int8", **INT8, name="q")
    y = model.tensor((1, 4, 4, 2), "int8", **INT8, name="y")
    model.op("COS", [x], [a])
    model.op("RELU", [a], [b])
    model.op("QUANTIZE", [b], [q])
    model.op("CUSTOM:mine", [q], [y])
    graph = import_tflite(model.bytes([x], [y]))
    cosine, relu, mine = left_out(graph)
    assert cosine.reason == "computes in floating point"
    assert relu.reason == "works on 'a' of type float32; int8 and uint8 are served"
    assert mine.reason == "is none of the operators that are served"
    for node in (cosine, relu):
        assert "full integers" in node.remedy
        assert "tilewright.quantize" in node.remedy
    assert mine.provenance.operators == ("CUSTOM:mine",)
    assert left_out(canonicalize(graph)) == [cosine, relu, mine]


def hybrid() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 12), "float32", name="x")
    w = model.tensor((2, 12), "int8", scale=0.1, data=np.ones((2, 12)))
    y = model.tensor((1, 2), "float32", name="y")
    model.op("FULLY_CONNECTED", [x, w], [y])
    return model.bytes([x], [y])


def of_rank_5() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 4), "int8", **INT8, name="x")
    y = model.tensor((2, 1, 1, 2, 1), "int8", **INT8, name="y")
    z = model.tensor((2, 1, 1, 2, 1), "int8", **INT8, name="z")
    shape = model.tensor((5,), "int32", data=[2, 1, 1, 2, 1])
    model.op("RESHAPE", [x, shape], [y])
    model.op("RELU", [y], [z])
    return model.bytes([x], [z])


def weights_that_are_computed() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 2), "int8", **INT8, name="x")
    w = model.tensor((1, 2), "int8", **INT8, name="w")
    y = model.tensor((1, 1), "int8", **INT8, name="y")
    model.op("RELU", [x], [w])
    model.op("FULLY_CONNECTED", [x, w], [y])
    return model.bytes([x], [y])


LEFT_OUT: dict[str, tuple[Callable[[], bytes], str]] = {
    "hybrid": (hybrid, "works on 'x' of type float32"),
    "rank 5": (of_rank_5, r"works on 'y' of shape \[2, 1, 1, 2, 1\]; it must be one image"),
    "weights": (weights_that_are_computed, "computes its weights 'w' while it runs"),
    "int16": (lambda: changed(_as_int16), "works on 'x' of type int16"),
    "no scale": (lambda: changed(tensor(0, quantization=None)), "works on 'x', which is int8 without a scale"),
    "activation": (lambda: changed(option(0, fusedActivationFunction=4)), "fused activation TANH"),
    "mean of the batch": (lambda: single("MEAN", (1, 4), (1, 4), [0], keep_dims=True), "which is no mean"),
    "constants alone": (lambda: _of_constants(), "computes with constants alone"),
    "batch": (lambda: single("TRANSPOSE", (1, 4, 5, 2), (4, 1, 5, 2), [1, 0, 2, 3]), "works on 'y' of shape"),
}


def _as_int16(model: Any) -> None:
    model.subgraphs[0].tensors[0].type = 7


def _of_constants() -> bytes:
    model = ModelBuilder()
    x = model.tensor((1, 2), "int8", **INT8, name="x")
    a, b = (model.tensor((1, 2), "int8", **INT8, data=[[1, 2]]) for _ in range(2))
    c = model.tensor((1, 2), "int8", **INT8, name="c")
    y = model.tensor((1, 2), "int8", **INT8, name="y")
    model.op("ADD", [a, b], [c])
    model.op("ADD", [x, c], [y])
    return model.bytes([x], [y])


@pytest.mark.parametrize("what", LEFT_OUT)
def test_left_out(what: str) -> None:
    build, reason = LEFT_OUT[what]
    nodes = left_out(import_tflite(build()))
    assert nodes
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(nodes[0].reason)
    assert nodes[0].remedy


# --- What is refused.


def _as_uint8(model: Any) -> None:
    tensor(3, type=3)(model)
    quantization(3, zeroPoint=[5])(model)


REFUSED: dict[str, tuple[Change, str]] = {
    "batch": (tensor(0, shape=[2, 4, 4, 2]), r"Input 'x' must have a batch of 1 .* not shape \[2, 4, 4, 2\]"),
    "open height": (tensor(0, shapeSignature=[-1, -1, 4, 2]), r"not shape \[-1, -1, 4, 2\]"),
    "output shape": (tensor(3, shape=[1, 2, 3, 3]), r"Output 'y' of CONV_2D '0: y' must have shape \[1, 2, 2, 3\]"),
    "output type": (_as_uint8, "Tensors of CONV_2D '0: y' must have one type, not int8, uint8"),
    "bias length": (
        tensor(2, shape=[1, 3], quantization=None),
        r"Bias 'b' of CONV_2D '0: y' must be int32 of shape \[3\]",
    ),
    "bias zero point": (quantization(2, zeroPoint=[0, 1, 0]), "Zero point of the bias 'b' .* must be 0"),
    "weights zero point": (quantization(1, zeroPoint=[0, 1, 0]), "Zero points of the weights 'w' .* must be 0"),
    "weights axis": (quantization(1, quantizedDimension=1), "Weights 'w' of .* must have one scale, or 3 along axis 0"),
    "channels": (tensor(0, shape=[1, 4, 4, 3]), "Weights of CONV_2D '0: y' must fit 3 input channels"),
    "softmax": (quantization(4, scale=[0.1]), "SOFTMAX '1: z': Output of SOFTMAX must have the scale 1/256"),
    "valid": (option(0, padding=1, dilationHFactor=2), r"'y' of CONV_2D '0: y' must have shape \[1, 0, 1, 3\]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    change, message = REFUSED[what]
    with pytest.raises(ModelError, match=message):
        import_tflite(changed(change))


def test_all_faults_stand_in_one_message() -> None:
    def change(model: Any) -> None:
        quantization(4, scale=[0.1])(model)
        quantization(2, zeroPoint=[0, 1, 0])(model)

    with pytest.raises(ModelError, match=r"(?s)Zero point of the bias 'b'.*\n.*Output of SOFTMAX"):
        import_tflite(changed(change))


def test_a_damaged_file_is_refused_by_its_reader() -> None:
    with pytest.raises(ModelFileError):
        import_tflite(good()[:100])


def unlike(
    kind: str, *, more: Any = (), scale: float = 0.25, result: tuple[int, ...] = (1, 4, 4, 2), **options: Any
) -> bytes:
    """An operator that moves integers, whose output has another scale."""
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "int8", **INT8, name="x")
    lists = [model.tensor(np.shape(values), "int32", data=values) for values in more]
    y = model.tensor(result, "int8", scale=scale, zero_point=3, name="y")
    model.op(kind, [x, *lists], [y], **options)
    return model.bytes([x], [y])


POOL: dict[str, Any] = {"filter_height": 1, "filter_width": 1, "stride_h": 1, "stride_w": 1}


@pytest.mark.parametrize(
    "model",
    [
        unlike("MAX_POOL_2D", **POOL),
        unlike("AVERAGE_POOL_2D", **POOL),
        unlike("RESHAPE", more=[[1, 4, 4, 2]]),
        unlike("PAD", more=[[[0, 0]] * 4]),
        unlike("CONCATENATION", axis=3),
        unlike("TRANSPOSE", more=[[0, 1, 2, 3]]),
        unlike("RESIZE_NEAREST_NEIGHBOR", more=[[4, 4]]),
    ],
)
def test_what_moves_integers_keeps_their_scale(model: bytes) -> None:
    with pytest.raises(ModelError, match=r"Type, scale and zero point of the tensors of \w+ '0: y' must be the same"):
        import_tflite(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (binary("ADD", [[7]], scale=2.0**-21), "Scale of output 'y' of ADD '0: y' must be more than"),
        (binary("ADD", [1, 2]), r"Shapes of the inputs of ADD '0: y' must be the same, or 1"),
        (fully_connected(np.zeros((2, 5))), "Weights of FULLY_CONNECTED '0: y' must divide the 12 elements"),
        (unlike("LOGISTIC"), "LOGISTIC '0: y': Output of LOGISTIC must have scale 1/256"),
        (single("SLICE", (1, 4), (1, 4), [0, 1], [1, 4]), r"Begin and size of SLICE '0: y' must lie within \[1, 4\]"),
        (single("RESHAPE", (1, 4), (4,), [5]), r"must have shape \[5\], not \[4\]"),
        (single("RESHAPE", (1, 4), (1, 5), [1, 5]), r"must have as many elements as \[1, 4\]"),
        (single("MEAN", (1, 4, 4, 2), (1, 2), [1, 4]), "Axes of MEAN '0: y' must be those of 4 axes"),
        (
            single("TRANSPOSE", (1, 4, 2), (1, 4, 2), [0, 1, 1]),
            "Order of TRANSPOSE '0: y' must name each of 3 axes once",
        ),
        (single("SQUEEZE", (1, 4, 2), (4, 2), squeeze_dims=[1]), "Axes of SQUEEZE '0: y' must have size 1"),
        (single("PAD", (1, 4), (1, 4), [[0, 0], [-1, 1]]), "Sizes of PAD '0: y' must be 2 pairs of 0 or more"),
        (single("SOFTMAX", (1, 4), (1, 4), [5]), "Number of inputs of SOFTMAX '0: y' must be 1, not 2"),
    ],
)
def test_contradictions(model: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_tflite(model)


def test_an_output_that_never_changes() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 4), "int8", **INT8, name="x")
    s = model.tensor((2,), "int32", name="s")
    model.op("SHAPE", [x], [s])
    with pytest.raises(ModelError, match="Output 's' must depend on the input"):
        import_tflite(model.bytes([x], [s]))


def test_a_result_that_would_leave_int32_is_refused() -> None:
    """The reference's kernels are undefined there."""
    for model in (
        changed(quantization(3, scale=[1e-7])),
        fully_connected(np.full((2, 12), 127)).replace(np.float32(4).tobytes(), np.float32(1e-9).tobytes()),
    ):
        with pytest.raises(ModelError, match="Rescale of Conv2d '0: y' must stay within int32"):
            canonicalize(import_tflite(model))
