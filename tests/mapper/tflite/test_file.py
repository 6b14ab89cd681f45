# SPDX-License-Identifier: Apache-2.0
"""The reader of TFLite files: good files give their numbers, all others one clear error, soon and in little memory."""

import struct
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")

import tflite

from tilewright_hdl.errors import ModelFileError
from tilewright_mapper.tflite.file import read_tflite

from .changes import WEIGHT, changed, good, operator, refused
from .models import ModelBuilder, schema
from .real_models import real_model

# Good files


def test_a_model_reads_to_its_numbers() -> None:
    model = read_tflite(good())
    assert (model.inputs, model.outputs) == ((0,), (4,))
    convolution, softmax = model.operators
    assert (convolution.index, convolution.kind) == (0, "CONV_2D")
    assert (convolution.inputs, convolution.outputs) == ((0, 1, 2), (3,))
    assert convolution.options == {
        "padding": "SAME",
        "stride_w": 2,
        "stride_h": 2,
        "fused_activation": "RELU",
        "dilation_w_factor": 1,
        "dilation_h_factor": 1,
    }
    assert (softmax.kind, softmax.options) == ("SOFTMAX", {"beta": 1.5})
    x, w, b, *_ = model.tensors
    assert (x.index, x.name, x.shape, x.open_sizes, x.dtype, x.data) == (0, "x", (1, 4, 4, 2), (), "int8", None)
    assert x.quantization is not None and w.quantization is not None
    assert (x.quantization.scale.tolist(), x.quantization.zero_point.tolist()) == ([0.5], [3])
    assert (w.quantization.scale.tolist(), w.quantization.zero_point.tolist()) == ([0.25, 0.5, 0.75], [0, 0, 0])
    assert (w.quantization.scale.dtype.str, w.quantization.zero_point.dtype.str, w.quantization.axis) == (
        "<f8",
        "<i8",
        0,
    )
    assert w.data is not None and b.data is not None
    np.testing.assert_array_equal(w.data, WEIGHT)
    assert (w.data.dtype.str, b.data.dtype.str, b.data.tolist()) == ("|i1", "<i4", [5, -6, 7])
    with pytest.raises(ValueError, match="read-only"):
        w.data[0] = 0


@pytest.mark.parametrize(
    ("kind", "given", "options"),
    [
        ("ADD", {"fused_activation_function": "RELU6"}, {"fused_activation": "RELU6", "pot_scale_int16": True}),
        ("SUB", {}, {"fused_activation": "NONE", "pot_scale_int16": True}),
        ("MUL", {"fused_activation_function": "RELU_N1_TO_1"}, {"fused_activation": "RELU_N1_TO_1"}),
        (
            "AVERAGE_POOL_2D",
            {"padding": "VALID", "stride_w": 2, "stride_h": 3, "filter_width": 4, "filter_height": 5},
            {
                "padding": "VALID",
                "stride_w": 2,
                "stride_h": 3,
                "filter_width": 4,
                "filter_height": 5,
                "fused_activation": "NONE",
            },
        ),
        (
            "DEPTHWISE_CONV_2D",
            {"stride_w": 1, "stride_h": 2, "depth_multiplier": 3, "dilation_h_factor": 4},
            {
                "padding": "SAME",
                "stride_w": 1,
                "stride_h": 2,
                "depth_multiplier": 3,
                "fused_activation": "NONE",
                "dilation_w_factor": 1,
                "dilation_h_factor": 4,
            },
        ),
        (
            "FULLY_CONNECTED",
            {"keep_num_dims": True},
            {
                "fused_activation": "NONE",
                "weights_format": "DEFAULT",
                "keep_num_dims": True,
                "asymmetric_quantize_inputs": False,
            },
        ),
        ("MEAN", {"keep_dims": True}, {"keep_dims": True}),
        ("RESHAPE", {"new_shape": [1, -1]}, {"new_shape": (1, -1)}),
        ("RESHAPE", {}, {"new_shape": ()}),
        ("SQUEEZE", {"squeeze_dims": [1, 2]}, {"squeeze_dims": (1, 2)}),
        ("CONCATENATION", {"axis": -1}, {"axis": -1, "fused_activation": "NONE"}),
        ("LEAKY_RELU", {"alpha": 0.25}, {"alpha": 0.25}),
        (
            "RESIZE_NEAREST_NEIGHBOR",
            {"half_pixel_centers": True},
            {"align_corners": False, "half_pixel_centers": True},
        ),
        ("TRANSPOSE", {}, {}),
        ("HARD_SWISH", {}, {}),
        ("CUSTOM:owner's", {}, {}),
    ],
)
def test_options(kind: str, given: dict[str, Any], options: dict[str, Any]) -> None:
    builder = ModelBuilder()
    x, y = (builder.tensor((1, 4), "int8", scale=0.5) for _ in range(2))
    builder.op(kind, [x, -1], [y], **given)
    (operator,) = read_tflite(builder.bytes([x], [y])).operators
    assert operator.kind == kind
    assert operator.inputs == (x, -1)
    assert operator.options == options


def test_options_that_the_file_lacks_are_the_defaults_of_the_schema() -> None:
    def change(model: Any) -> None:
        softmax = model.subgraphs[0].operators[1]
        softmax.builtinOptionsType, softmax.builtinOptions = 0, None

    assert read_tflite(changed(change)).operators[1].options == {"beta": 0.0}


@pytest.mark.parametrize(
    ("deprecated", "builtin", "kind"),
    [
        (14, 0, "LOGISTIC"),
        (14, 14, "LOGISTIC"),
        (127, 150, "GELU"),
        (127, 5000, "BUILTIN 5000"),
        (0, 98, "LEAKY_RELU"),
        (14, 98, "LEAKY_RELU"),
        (98, 14, "LEAKY_RELU"),
    ],
)
def test_operator_codes_of_old_and_new_files(deprecated: int, builtin: int, kind: str) -> None:
    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.deprecatedBuiltinCode, code.builtinCode = deprecated, builtin
        model.subgraphs[0].operators[0].builtinOptionsType = 0

    assert read_tflite(changed(change)).operators[0].kind == kind


def test_missing_options_of_a_window_are_refused() -> None:
    change = operator(0, builtinOptionsType=0, builtinOptions=None)
    assert "stride_w of operator 0 (CONV_2D) must be 1 or more, was 0" in refused(changed(change))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [0.5, -1.0, np.inf]),
        ("float16", [0.5, -1.0, 2.0]),
        ("float64", [0.5, -1.0, 2.0]),
        ("int16", [-32768, 3, 4]),
        ("int64", [-(2**63), 3, 2**63 - 1]),
        ("uint8", [0, 128, 255]),
        ("uint16", [0, 1, 65535]),
        ("uint32", [0, 1, 2**32 - 1]),
        ("uint64", [0, 1, 2**64 - 1]),
        ("bool", [True, False, True]),
        ("complex64", [1j, 2, 3]),
    ],
)
def test_types_that_numpy_has(dtype: str, values: list[Any]) -> None:
    builder = ModelBuilder()
    x, y = (builder.tensor((3,), dtype) for _ in range(2))
    constant = builder.tensor((3,), dtype, data=np.asarray(values, dtype))
    builder.op("ADD", [x, constant], [y])
    tensor = read_tflite(builder.bytes([x], [y])).tensors[constant]
    assert tensor.dtype == dtype
    assert tensor.data is not None
    assert tensor.data.dtype == np.dtype(dtype)
    assert tensor.data.tolist() == np.asarray(values, dtype).tolist()


def test_int4_is_unpacked_with_its_sign() -> None:
    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[2]
        tensor.type = schema.TensorType.INT4
        model.buffers[tensor.buffer].data = np.array([0x7F, 0xF8], np.uint8)

    tensor = read_tflite(changed(change)).tensors[2]
    assert tensor.dtype == "int4"
    assert tensor.data is not None and tensor.data.tolist() == [-1, 7, -8]


def test_empty_constants_and_empty_buffers() -> None:
    def change(model: Any) -> None:
        empty = schema.BufferT()
        empty.data = np.zeros(0, np.uint8)
        model.buffers.append(empty)
        between, shape = model.subgraphs[0].tensors[3:]
        between.buffer = len(model.buffers) - 1
        shape.buffer, shape.shape, shape.type = len(model.buffers) - 1, [0], schema.TensorType.INT32
        shape.quantization = None
        model.subgraphs[0].operators[1].inputs, model.subgraphs[0].operators[1].outputs = [3, 4], []
        model.subgraphs[0].outputs = [3]

    *_, between, shape = read_tflite(changed(change)).tensors
    assert between.data is None
    assert shape.data is not None and shape.data.shape == (0,)


def test_open_sizes_are_marked() -> None:
    def change(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = [-1, 4, -1, 2]

    tensor = read_tflite(changed(change)).tensors[0]
    assert (tensor.shape, tensor.open_sizes) == ((1, 4, 4, 2), (0, 2))


def test_floats_have_no_quantization() -> None:
    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[3]
        tensor.type = schema.TensorType.FLOAT32
        tensor.quantization.scale = [0.0]

    assert read_tflite(changed(change)).tensors[3].quantization is None


@pytest.mark.parametrize(
    ("name", "kinds", "weights"),
    [("pretrainedResnet_quant.tflite", 16, 77_360), ("kws_ref_model.tflite", 13, 22_016)],
)
def test_real_models(name: str, kinds: int, weights: int) -> None:
    model = read_tflite(real_model(name))
    assert len(model.operators) == kinds
    assert model.operators[-1].kind == "SOFTMAX"
    constants = [tensor.data for tensor in model.tensors if tensor.data is not None and tensor.dtype == "int8"]
    assert sum(data.size for data in constants) == weights


# Damaged files


def test_every_cut_is_refused() -> None:
    data = good()
    kept = [size for size in range(len(data)) if not _refuses(data[:size])]
    assert not kept or min(kept) > len(data) - 4, kept  # Only padding may be missing.


def test_every_bit_flip_reads_or_is_refused() -> None:
    data = good()
    refusals = 0
    for position in range(0, 8 * len(data), 3):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        refusals += _refuses(bytes(flipped))
    assert refusals > len(data) // 2


@pytest.mark.parametrize("word", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0xFFFF, 0x10000])
def test_every_word_of_extremes_reads_or_is_refused(word: int) -> None:
    data = good()
    refusals = 0
    for position in range(0, len(data) - 3, 4):
        refusals += _refuses(data[:position] + struct.pack("<I", word) + data[position + 4 :])
    assert refusals > len(data) // 16


def _refuses(data: bytes) -> bool:
    """Whether the reader refuses; any other exception, or more than a second, is a failure of the test."""
    start = time.process_time()
    try:
        read_tflite(data)
    except ModelFileError:
        return True
    finally:
        assert time.process_time() - start < 1
    return False


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 100, b"\x08\0\0\0TFL3", b"\x10\0\0\0ONNX" + b"\0" * 50])
def test_other_files_are_refused(data: bytes) -> None:
    assert refused(data).startswith("Model file: ")


def test_only_bytes_are_read() -> None:
    with pytest.raises(TypeError, match="data must be bytes, not str"):
        read_tflite("model.tflite")  # type: ignore[arg-type]


# Files made to cost much


def test_a_long_name_is_cut_in_messages() -> None:
    def change(model: Any) -> None:
        first = model.subgraphs[0].tensors[0]
        first.name, first.buffer = "n" * 100_000, 77

    assert len(refused(changed(change))) < 300


@pytest.mark.parametrize("length", [1 << 31, (1 << 32) - 1, 1 << 20])
@pytest.mark.parametrize("field", ["inputs", "tensors", "shape", "scale", "data", "name", "operator codes"])
def test_lengths_that_only_the_header_claims(field: str, length: int) -> None:
    data = bytearray(good())
    at = vectors(bytes(data))[field]
    struct.pack_into("<I", data, at, length)
    assert "inside of the file's" in refused(bytes(data)) or "at most 8" in refused(bytes(data))


def vectors(data: bytes) -> dict[str, int]:
    """Places of the lengths of some vectors of the file."""
    model = tflite.Model.GetRootAs(data)
    first = model.Subgraphs(0)
    parts = [
        ("operator codes", model._tab, 6),
        ("tensors", first._tab, 4),
        ("inputs", first._tab, 6),
        ("shape", first.Tensors(0)._tab, 4),
        ("name", first.Tensors(0)._tab, 10),
        ("scale", first.Tensors(1).Quantization()._tab, 8),
        ("data", model.Buffers(1)._tab, 4),
    ]
    return {name: table.Vector(table.Offset(slot)) - 4 for name, table, slot in parts}
