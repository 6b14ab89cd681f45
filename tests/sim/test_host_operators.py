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
