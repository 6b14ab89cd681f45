# SPDX-License-Identifier: Apache-2.0
"""The reference on whole networks: exact before canonicalization, one step away after it."""

from collections.abc import Callable

import numpy as np
import pytest

from tilewright_hdl.numerics import Rounding
from tilewright_mapper.graph import Conv2d, HostOp, Tensor
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pytorch.importer import import_program
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.rounding import with_rounding

from .builders import alone, conv, dequantize, graph, host, int8, integers, quantize, real, weights
from .networks import NETWORKS, calibration, quantized


@pytest.mark.parametrize("name", NETWORKS)
def test_the_imported_graph_is_the_fake_quantized_program(name: str) -> None:
    program, g = quantized(name), import_program(quantized(name))
    x = calibration(3)
    values = reference_run(g, x.numpy())
    for i in range(3):
        np.testing.assert_array_equal(values[g.outputs[0]][i : i + 1], program.module()(x[i : i + 1]).detach().numpy())


@pytest.mark.parametrize("name", NETWORKS)
def test_each_layer_is_one_step_away_at_most(name: str, record_property: Callable[[str, object], None]) -> None:
    """Each integer layer gets the fake-quantized program's own input, so that differences do not add up."""
    before = import_program(quantized(name))
    after = canonicalize(before)
    fake = reference_run(before, calibration(16).numpy())
    differing = total = 0
    for node in after:
        ends = [*node.inputs, *node.outputs]
        if not all(end in fake and after.tensor(end).dtype == "int8" for end in ends):
            continue
        ours = reference_run(alone(after, node), tuple(fake[i] for i in node.inputs))[node.output]
        distance = np.abs(ours.astype(int) - fake[node.output])
        assert distance.max() <= 1, node.name
        differing, total = differing + int((distance > 0).sum()), total + distance.size
    record_property("mismatch_rate", differing / total)
    assert total > 1000
    assert differing / total < 1e-3


def test_int8_in_is_what_quantize_would_give() -> None:
    g = canonicalize(import_program(quantized("relu")))
    from_float = reference_run(g, calibration(4).numpy())
    from_int8 = reference_run(g, from_float[g.nodes[0].output])
    np.testing.assert_array_equal(from_float[g.outputs[0]], from_int8[g.outputs[0]])


def test_a_batch_is_its_images() -> None:
    g, x = canonicalize(import_program(quantized("tokens"))), calibration(3).numpy()
    whole = reference_run(g, {"x": x})
    for i in range(3):
        one = reference_run(g, (x[i : i + 1],))
        for name, value in one.items():
            np.testing.assert_array_equal(value[0], whole[name][i], err_msg=name)


def test_rounding_and_multiplier_bits_are_parameters() -> None:
    w = weights(8, 4, 3, 3)
    g = graph([int8("x", 4, 6, 6), int8("y", 8, 4, 4, scale=0.77)], [conv("c", "x", "y", w)])
    x = integers(8, 4, 6, 6)
    single = reference_run(g, x)["y"].astype(int)
    others = {
        "double": reference_run(with_rounding(g, Rounding.TFLITE_DOUBLE), x)["y"],
        "8 bits": reference_run(g, x, bits=8)["y"],
    }
    for what, other in others.items():
        distance = np.abs(single - other)
        assert 0 < distance.max() <= 1, what
    np.testing.assert_array_equal(single, reference_run(g, x, bits=31)["y"])


def test_values_between_host_operators_may_have_no_batch_axis() -> None:
    middle = Tensor(name="a", shape=(3, 1, 4), dtype="float32", batched=False)
    g = graph(
        [real("x", 3, 4), middle, real("y", 3, 4)],
        [host("t", "aten.transpose.int", ("x",), "a", 0, 1), host("u", "aten.transpose.int", ("a",), "y", 0, 1)],
    )
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    values = reference_run(g, x)
    assert values["a"].shape == (5, 3, 1, 4)
    np.testing.assert_array_equal(values["y"], x)


def test_wrong_inputs() -> None:
    g = graph([real("x", 3), int8("q", 3), real("y", 3)], [quantize("x", "q"), dequantize("q", "y")])
    with pytest.raises(ValueError, match=r"Input 'x' must have shape \(N, \*\(3,\)\), not \(2, 4\)"):
        reference_run(g, np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="x must have 1 arrays"):
        reference_run(g, (np.zeros((2, 3)), np.zeros((2, 3))))
    with pytest.raises(ValueError, match="x must name the inputs x, not z"):
        reference_run(g, {"z": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="at least one image"):
        reference_run(g, np.zeros((0, 3)))
    floating = graph([real("x", 3), real("y", 3)], [host("r", "aten.relu.default", ("x",), "y")])
    with pytest.raises(TypeError, match="'x' must be float32, as it is used before it is quantized"):
        reference_run(floating, np.zeros((2, 3), np.int8))


def test_networks_use_what_they_are_for() -> None:
    nodes = [n for name in NETWORKS for n in canonicalize(import_program(quantized(name)))]
    assert {n.op for n in nodes} == {
        *("Quantize", "Conv2d", "Add", "MaxPool2d", "AvgPool2d", "Table", "Dequantize", "HostOp"),
    }
    assert any(isinstance(n, Conv2d) and n.groups == 8 for n in nodes)
    assert any(isinstance(n, HostOp) and n.target == "aten.softmax.int" for n in nodes)
