# SPDX-License-Identifier: Apache-2.0
"""Host steps: results, and everything a malformed one can do."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright_driver.host import run_host_step
from tilewright_hdl.errors import DeviceError, TilewrightError
from tilewright_hdl.program import HostStep, TensorInfo

TENSORS = {
    "q": TensorInfo(name="q", shape=(2, 3), dtype="int8", scale=0.25, zero_point=-1),
    "flat": TensorInfo(name="flat", shape=(6,), dtype="int8", scale=0.25, zero_point=-1),
    "f": TensorInfo(name="f", shape=(2, 3), dtype="float32"),
    "row": TensorInfo(name="row", shape=(2, 1), dtype="float32"),
}
Q = np.array([[-128, -1, 0], [1, 5, 127]], np.int8)
F = (Q.astype(np.float32) + 1) * np.float32(0.25)
VALUES = {"q": Q, "f": F, "flat": Q.reshape(6)}


def run(kind: str, source: str, result: str, **more: Any) -> npt.NDArray[Any]:
    step = HostStep(kind=kind, layer=0, inputs=(source,), outputs=(result,), **more)
    return run_host_step(step, TENSORS, VALUES)[result]


def test_conversions() -> None:
    assert np.array_equal(run("dequantize", "q", "f"), F)
    assert np.array_equal(run("quantize", "f", "q", target="reciprocal"), Q)
    assert np.array_equal(run("quantize", "f", "q", target="half_away", low=-1, high=4), np.clip(Q, -1, 4))
    assert np.array_equal(run("reshape", "q", "flat"), Q.reshape(6))
    image = np.arange(24, dtype=np.int8).reshape(4, 2, 3)
    info = {name: TensorInfo(name=name, shape=shape, dtype="int8", scale=1.0, zero_point=0)
            for name, shape in (("image", (4, 2, 3)), ("tokens", (6, 4)), ("other", (3, 4, 2)))}
    for source, target in (("image", "tokens"), ("image", "other")):
        step = HostStep(kind="reshape", layer=0, inputs=(source,), outputs=(target,), target="channels_last")
        moved = run_host_step(step, info, {"image": image})[target]
        last = np.moveaxis(moved, 0, -1) if moved.ndim == 3 else moved
        assert np.array_equal(last.ravel(), np.moveaxis(image, 0, -1).ravel())
    step = HostStep(kind="constant", layer=0, inputs=(), outputs=("q",), constants={"values": Q + 1})
    assert np.array_equal(run_host_step(step, TENSORS, {})["q"], Q + 1)


def test_operators_see_a_batch_of_one() -> None:
    total = run("op", "f", "row", target="aten.sum.dim_IntList", args=({"tensor": "f"}, (2,), True))
    assert np.array_equal(total, F.sum(1, keepdims=True))
    added = run("op", "f", "f", target="aten.add.Tensor", args=({"tensor": "f"}, {"constant": "c"}),
                constants={"c": np.float32([[[1, 2, 3]]])})
    assert np.array_equal(added, F + np.float32([1, 2, 3]))


@pytest.mark.parametrize(("target", "args", "message"), [
    ("aten.softmax.int", ({"tensor": "f"}, 9), "PyTorch cannot run aten.softmax.int on the host"),
    ("aten.sum.dim_IntList", ({"tensor": "f"}, [2], True),
     r"must make 'f' of shape \(2, 3\) and dtype float32, but made \(2, 1\) and float32"),
    ("aten.to.dtype", ({"tensor": "f"}, {"dtype": "float64"}), "and dtype float32, but made .* and float64"),
    ("aten.to.dtype", ({"tensor": "f"}, {"dtype": "bfloat16"}), "PyTorch cannot run aten.to.dtype"),
    ("aten.repeat.default", ({"tensor": "f"}, (10**4, 10**4, 10**4)), "must make at most"),
    ("aten.squeeze.default", ({"tensor": "f"},), r"must make 'f' with a batch of one, but made \(2, 3\)"),
    ("aten.neg.default", ({"tensor": "missing"},), "PyTorch cannot run aten.neg.default"),
    ("aten.zero_.default", ({"tensor": "f"},), "without side effects"),
    ("os.system.default", ("true",), "must be an overload of aten"),
])
def test_malformed_operators(target: str, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TilewrightError, match=message):
        run("op", "f", "f", target=target, args=args)


def test_too_few_results() -> None:
    step = HostStep(kind="op", layer=0, inputs=("f",), outputs=("f", "row"), target="aten.neg.default",
                    args=({"tensor": "f"},))
    with pytest.raises(DeviceError, match="must have 2 results, but has 1"):
        run_host_step(step, TENSORS, VALUES)
