# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from tilewright_hdl.errors import ProgramError
from tilewright_sim import host_operators


def test_runs_an_operator_from_plain_data() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]])
    args = json.loads(json.dumps([{"tensor": "x"}, 1, {"dtype": "float64"}]))
    (y,) = host_operators.run("aten.softmax.int", args, {}, {"x": x}, {})
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, torch.softmax(x.double(), 1))


def test_constants_infinities_and_several_results() -> None:
    x = torch.tensor([[3.0, -1.0]])
    (y,) = host_operators.run("aten.clamp.default", [{"tensor": "x"}, {"float": "-inf"}, 2.0], {}, {"x": x}, {})
    assert y.tolist() == [[2.0, -1.0]]
    (y,) = host_operators.run(
        "aten.add.Tensor", [{"tensor": "x"}, {"constant": "c"}], {"alpha": 2}, {"x": x}, {"c": torch.ones(2)}
    )
    assert y.tolist() == [[5.0, 1.0]]
    parts = host_operators.run("aten.split.Tensor", [{"tensor": "x"}, 1, 1], {}, {"x": x}, {})
    assert [p.tolist() for p in parts] == [[[3.0]], [[-1.0]]]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("aten.no_such_operator.default", "overload of aten or quantized_decomposed"),
        ("aten.softmax", "overload of aten or quantized_decomposed"),
        ("os.system.default", "overload of aten or quantized_decomposed"),
        ("aten.relu_.default", "without side effects"),
        ("aten.add.out", "without side effects"),
        ("aten.from_file.default", "without side effects"),
        ("aten._reshape_alias.default", "must be public or part of Core ATen"),
    ],
)
def test_refuses_what_is_no_pure_function(target: str, says: str) -> None:
    with pytest.raises(ProgramError, match=says):
        host_operators.resolve(target)


def test_refuses_unknown_arguments() -> None:
    with pytest.raises(ProgramError, match="plain value or a reference"):
        host_operators.run("aten.relu.default", [{"pickle": "x"}], {}, {}, {})
    with pytest.raises(ProgramError, match=r"no torch\.dtype"):
        host_operators.run("aten.relu.default", [{"dtype": "load"}], {}, {}, {})
    with pytest.raises(ProgramError, match="plain value or a reference"):
        host_operators.run("aten.relu.default", [{"tensor": "x", "dtype": "x"}], {}, {}, {})


@pytest.mark.parametrize(("target", "args", "says"), [
    ("aten.repeat.default", [[10**4, 10**4]], "must make at most 268435456 elements, but aten.repeat.default makes"),
    ("aten.new_zeros.default", [[10**12]], "must make at most"),
    ("aten.constant_pad_nd.default", [[10**12, 0]], "must make at most"),
    ("aten.bincount.default", [None, 10**12], "shapes follow from those of its arguments"),
    ("aten.nonzero.default", [], "shapes follow from those of its arguments"),
])
def test_results_that_fill_the_memory_are_refused_before_they_are_made(
    target: str, args: list[object], says: str
) -> None:
    with pytest.raises(ProgramError, match=says):
        host_operators.run(target, [{"tensor": "x"}, *args], {}, {"x": torch.ones(5, 3)}, {})


def test_a_device_is_where_the_tensors_are() -> None:
    x = torch.ones(2)
    (y,) = host_operators.run("aten.new_zeros.default", [{"tensor": "x"}, [3]], {"device": {"device": "cpu"}}, {"x": x},
                              {})
    assert y.device.type == "cpu" and y.tolist() == [0, 0, 0]
