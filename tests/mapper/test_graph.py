# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools

import numpy as np
import pytest

from tilewright_mapper.graph import HostOp, Provenance, Table, image_shape, is_layout_free, spatial_shape, tensor_refs

from .builders import constant, conv, graph, host, int8, weights


def test_nodes_are_equal_by_value() -> None:
    a = conv("c", "x", "y", weights(4, 3, 1, 1))
    b = conv("c", "x", "y", weights(4, 3, 1, 1), provenance=Provenance(module="layer1"))
    assert a == b, "where a node came from is not part of what it is"
    assert a != conv("c", "x", "y", weights(4, 3, 1, 1, seed=9))
    assert a != dataclasses.replace(a, stride=(2, 1))
    assert a != dataclasses.replace(a, bias=a.bias.astype(np.int64)), "a dtype counts"
    assert a != Table(name="c", inputs=("x",), outputs=("y",), table=np.zeros(256, np.int8))


def test_host_operators_are_equal_by_arguments_and_constants() -> None:
    a = host("h", "aten.add.Tensor", ("x",), "y", {"constant": "c"}, constants={"c": np.ones(3)})
    assert a == host("h", "aten.add.Tensor", ("x",), "y", {"constant": "c"}, constants={"c": np.ones(3)})
    assert a != host("h", "aten.add.Tensor", ("x",), "y", {"constant": "c"}, constants={"c": np.zeros(3)})
    assert a != host("h", "aten.add.Tensor", ("x",), "y", {"constant": "c"}, constants={"d": np.ones(3)})
    w = constant(weights(2, 3))
    assert w == constant(weights(2, 3)) != constant(weights(2, 3), scale=0.5)


def test_graphs_are_equal_by_structure() -> None:
    def make(zero_point: int) -> object:
        return graph(
            [int8("x", 3, 4, 4, zero_point=zero_point), int8("y", 4, 4, 4)], [conv("c", "x", "y", weights(4, 3, 1, 1))]
        )

    assert make(1) == make(1) != make(2)


def test_lookups() -> None:
    g = graph([int8("x", 3, 4, 4), int8("y", 4, 4, 4)], [conv("c", "x", "y", weights(4, 3, 1, 1))])
    assert g["c"].output == "y"
    assert g.producers() == {"y": g["c"]}
    assert g.consumers() == {"x": (g["c"],), "y": ()}
    assert g.tensor("x").size == 48
    with pytest.raises(KeyError, match="No node is named 'd'; the graph has c"):
        g["d"]


def test_a_host_tensor_has_no_quantization() -> None:
    tensor = dataclasses.replace(int8("x", 3), dtype="float32", scale=None, zero_point=None)
    assert not tensor.is_quantized
    with pytest.raises(ValueError, match="'x' must be quantized"):
        _ = tensor.quantization


def test_image_shape() -> None:
    assert image_shape((5,)) == (5, 1, 1)
    assert image_shape((7, 5)) == (5, 1, 7)
    assert image_shape((5, 2, 3)) == (5, 2, 3)
    with pytest.raises(ValueError, match="rank 1 to 3"):
        image_shape((1, 2, 3, 4))


def packed_order(shape: tuple[int, ...]) -> list[list[int]]:
    """PyTorch's element numbers, pixel by pixel, channels of a pixel side by side."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    rows = numbers if len(shape) == 2 else numbers.reshape(shape[0], -1).T
    return [list(row) for row in rows]


def test_is_layout_free_is_right_for_all_small_shapes() -> None:
    shapes = [s for n in (1, 2, 3) for s in itertools.product((1, 2, 3, 4, 6), repeat=n)]
    pairs = [(a, b) for a, b in itertools.product(shapes, repeat=2) if np.prod(a) == np.prod(b) and np.prod(a) <= 24]
    for a, b in pairs:
        assert is_layout_free(a, b) == (packed_order(a) == packed_order(b)), (a, b)


def test_spatial_shape() -> None:
    assert spatial_shape((7, 7), (3, 3), (2, 2), (1, 1, 1, 1)) == (4, 4)
    assert spatial_shape((5, 6), (3, 2), (1, 2), (0, 0, 1, 0), (2, 1)) == (2, 3)
    assert spatial_shape((2, 9), (5, 3), (1, 1), (0, 0, 0, 0))[0] < 1


def test_tensor_refs() -> None:
    args = ({"tensor": "a"}, [1, {"tensor": "b"}], {"constant": "k"}, None)
    node = HostOp(name="h", inputs=("a", "b"), outputs=("y",), target="aten.cat.default", args=args)
    assert list(tensor_refs((node.args, {"key": {"tensor": "a"}}))) == ["a", "b", "a"]
