# SPDX-License-Identifier: Apache-2.0
"""The builder of TFLite models: what it writes, the interpreter reads and computes."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from .models import ModelBuilder, Reference, all_outputs, reference, schema


def convolution() -> bytes:
    """Per-channel convolution of a 4x4 image with 2 channels, then its softmax-free tail: a reshape to a row."""
    rng = np.random.default_rng(0)
    model = ModelBuilder()
    x = model.tensor((1, 4, 4, 2), "int8", scale=0.5, zero_point=3, name="x")
    weight = rng.integers(-127, 128, (3, 3, 3, 2))
    w = model.tensor(weight.shape, "int8", scale=[0.01, 0.02, 0.03], data=weight)
    b = model.tensor((3,), "int32", scale=[0.005, 0.01, 0.015], data=[5, -6, 7])
    y = model.tensor((1, 2, 2, 3), "int8", scale=0.4, zero_point=-5, name="y")
    shape = model.tensor((2,), "int32", data=[1, 12])
    z = model.tensor((1, 12), "int8", scale=0.4, zero_point=-5, name="z")
    model.op(
        "CONV_2D", [x, w, b], [y], stride_h=2, stride_w=2, padding="SAME", fused_activation_function="RELU", version=3
    )
    model.op("RESHAPE", [y, shape], [z])
    return model.bytes([x], [z])


def test_every_operator_is_an_output() -> None:
    x = np.random.default_rng(1).integers(-128, 128, (1, 4, 4, 2)).astype(np.int8)
    results = reference(convolution(), x)
    assert list(results) == ["y", "z"]
    assert results["y"].shape == (1, 2, 2, 3)
    assert results["y"].dtype == np.int8
    assert results["y"].min() == -5  # The fused ReLU cuts at the zero point.
    np.testing.assert_array_equal(results["z"], results["y"].reshape(1, 12))


def test_all_outputs_changes_the_outputs_only() -> None:
    before = schema.ModelT.InitFromPackedBuf(bytearray(convolution()), 0)
    after = schema.ModelT.InitFromPackedBuf(bytearray(all_outputs(convolution())), 0)
    assert list(before.subgraphs[0].outputs) == [5]
    assert list(after.subgraphs[0].outputs) == [3, 5]
    options = after.subgraphs[0].operators[0].builtinOptions
    assert (options.strideH, options.strideW, options.padding) == (2, 2, schema.Padding.SAME)
    assert [code.version for code in after.operatorCodes] == [3, 1]
    np.testing.assert_array_equal(after.buffers[1].data, before.buffers[1].data)


def test_a_reference_runs_again_with_other_inputs() -> None:
    model = ModelBuilder()
    a = model.tensor((1, 5), "uint8", scale=0.5, zero_point=10)
    b = model.tensor((1, 5), "uint8", scale=0.5, zero_point=10)
    total = model.tensor((1, 5), "uint8", scale=0.5, zero_point=10, name="sum")
    model.op("ADD", [a, b], [total])
    runs = Reference(model.bytes([a, b], [total]))
    for value in (3, 100):
        values = np.full((1, 5), value, np.uint8)
        np.testing.assert_array_equal(runs.run(values, values)["sum"], np.clip(2 * values.astype(int) - 10, 0, 255))


def test_names_must_differ() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 2), "int8", scale=1.0, name="x")
    y = model.tensor((1, 2), "int8", scale=1.0, name="same")
    z = model.tensor((1, 2), "int8", scale=1.0, name="same")
    model.op("RELU", [x], [y])
    model.op("RELU", [y], [z])
    with pytest.raises(ValueError, match="different names"):
        Reference(model.bytes([x], [z]))


def test_slips_are_named() -> None:
    model = ModelBuilder()
    x = model.tensor((1, 2), "int8", scale=1.0)
    with pytest.raises(TypeError, match="no field 'stride'"):
        model.op("CONV_2D", [x], [x], stride=1)
    with pytest.raises(TypeError, match="RELU has no options"):
        model.op("RELU", [x], [x], alpha=1.0)
    with pytest.raises(ValueError, match=r"shape \(2,\), not \(3,\)"):
        model.tensor((2,), "int8", data=[1, 2, 3])
