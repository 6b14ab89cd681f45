# SPDX-License-Identifier: Apache-2.0
"""Integer operators on the host: everything that a malformed one can say is refused when the program is loaded."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from tilewright_hdl.errors import ProgramError
from tilewright_hdl.numerics import Rounding
from tilewright_hdl.program import HostStep, TensorInfo
from tilewright_hdl.program_integer import check_integer_step, spatial_shape


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name=name, shape=shape, dtype="int8", scale=0.5, zero_point=0)


TENSORS = {t.name: t for t in (
    tensor("x", 4, 5, 5), tensor("y", 6, 3, 3), tensor("pooled", 4, 3, 3), tensor("same", 4, 5, 5),
    tensor("row", 4, 1, 5), tensor("grown", 4, 8, 6), tensor("two", 4, 2, 5),
    dataclasses.replace(tensor("real", 4, 5, 5), scale=None, zero_point=None, dtype="float32"),
)}


def rescale(count: int) -> dict[str, Any]:
    return {"multiplier": np.full(count, 1 << 30, np.int64), "shift": np.full(count, 40, np.int64)}


def step(target: str, *ends: str, **changes: Any) -> HostStep:
    return HostStep(**{"kind": "integer", "layer": 0, "target": target, "inputs": ends[:-1], "outputs": ends[-1:]}
                    | changes)


WINDOW = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
CONV = step("conv2d", "x", "y", kwargs=WINDOW, constants={
    "weight": np.ones((6, 2, 3, 3), np.int8), "bias": np.zeros(6, np.int32), **rescale(6)})
POOL = step("max_pool2d", "x", "pooled", kwargs=WINDOW | {"kernel": (3, 3)})
AVERAGE = step("avg_pool2d", "x", "pooled", constants=rescale(1),
               kwargs={"kernel": (3, 3), "stride": (1, 1), "padding": (0, 0, 0, 0)})
ADD = step("add", "x", "x", "same", constants=rescale(3))
TABLE = step("table", "x", "same", constants={"entries": np.zeros(256, np.int8)})
REQUANTIZE = step("requantize", "x", "same", constants=rescale(1))
MULTIPLY = step("multiply", "x", "row", "same", constants=rescale(1))
PAD = step("pad2d", "x", "grown", kwargs={"padding": (1, 0, 2, 1)}, constants={"value": np.full(1, -128, np.int8)})
RAW = step("avg_pool2d_raw", "x", "pooled", rounding=Rounding.FLOAT64_HALF_AWAY,
           kwargs={"kernel": (3, 3), "stride": (1, 1), "padding": (0, 0, 0, 0), "divisor": (0,)})
FLOAT = dataclasses.replace(CONV, rounding=Rounding.FLOAT_HALF_EVEN, constants={
    "weight": np.ones((6, 2, 3, 3), np.int8), "bias": np.zeros(6, np.int32), "factor": np.full(6, 0.25)})
WIDE = dataclasses.replace(CONV, target="conv2d_wide", constants={
    **CONV.constants, "weight": np.full((6, 2, 3, 3), 255, np.int16)})
FLOAT_ADD = dataclasses.replace(ADD, rounding=Rounding.FLOAT_HALF_EVEN, constants={})


@pytest.mark.parametrize("sound", [
    CONV, POOL, AVERAGE, ADD, TABLE, REQUANTIZE, MULTIPLY, PAD, RAW, FLOAT, WIDE, FLOAT_ADD,
], ids=lambda s: f"{s.target}-{s.rounding}")
def test_sound_steps_pass(sound: HostStep) -> None:
    check_integer_step(sound, TENSORS)


def kwargs(base: HostStep, **changes: Any) -> HostStep:
    return dataclasses.replace(base, kwargs={**base.kwargs, **changes})


def constants(base: HostStep, **changes: Any) -> HostStep:
    return dataclasses.replace(base, constants={**base.constants, **changes})


@pytest.mark.parametrize(("bad", "message"), [
    (step("magic", "x", "same"), "must be one of conv2d, .*add, .* not 'magic'"),
    (dataclasses.replace(ADD, inputs=("x",)), r"must have \(inputs, .* \(2, 1, 0"),
    (dataclasses.replace(TABLE, args=(1,)), r"must have \(inputs"),
    (kwargs(TABLE, stride=(1, 1)), r"must have \(inputs"),
    (dataclasses.replace(TABLE, constants={}), r"must have \(inputs"),
    (dataclasses.replace(TABLE, inputs=("real",)), "int8 tensors of rank 1 to 3"),
    (dataclasses.replace(REQUANTIZE, low=5, high=4), "a clamp within"),
    (dataclasses.replace(REQUANTIZE, high=200), "a clamp within"),
    (kwargs(POOL, stride=(0, 1)), "a stride of 2 integers from 1"),
    (kwargs(POOL, stride=(1, True)), "a stride of 2 integers"),
    (kwargs(POOL, kernel=3), "a kernel of 2 integers"),
    (kwargs(POOL, padding=(0, 0, 0, -1)), "a padding of 4 integers from 0"),
    (kwargs(POOL, padding=(0, 0, 0, 1 << 40)), "a padding of 4 integers"),
    (kwargs(POOL, dilation=(2, 2)), r"make the height and width of its result \(3, 3\), not \(1, 1\)"),
    (dataclasses.replace(POOL, outputs=("y",)), "keep the channels 4, not 6"),
    (kwargs(POOL, kernel=(65535, 65535), stride=(65535, 65535), padding=(65000, 65000, 65535, 65535)),
     "height and width"),
    (kwargs(POOL, stride=(60000, 60000), padding=(60000, 60000, 60000, 60000)), "no array of more elements than"),
    (constants(CONV, weight=np.ones((6, 2, 3, 3), np.int32)), r"constants\) .*'weight': 'int32'"),
    (constants(CONV, weight=np.ones((6, 3, 3, 3), np.int8)), "connect the channels"),
    (constants(CONV, weight=np.ones((6, 0, 3, 3), np.int8)), "a weight of rank 4"),
    (constants(CONV, weight=np.ones((54, 2), np.int8)), "a weight of rank 4"),
    (constants(CONV, weight=np.ones((7, 2, 3, 3), np.int8)), "connect the channels"),
    (constants(CONV, bias=np.zeros(5, np.int32)), r"a bias of shape \(6,\)"),
    (constants(CONV, **rescale(1)), "a multiplier of 6 numbers"),
    (constants(ADD, **rescale(1)), "a multiplier of 3 numbers"),
    (constants(ADD, multiplier=np.full(3, 1 << 31, np.int64)), "a multiplier of 3 numbers from 0 to 2147483647"),
    (constants(ADD, shift=np.full(3, 63, np.int64)), "a shift of 3 numbers from 2 to 62"),
    (constants(TABLE, entries=np.zeros(255, np.int8)), r"entries of shape \(256,\)"),
    (dataclasses.replace(ADD, outputs=("y",)), "operands of the sizes of its result"),
    (dataclasses.replace(TABLE, outputs=("y",)), "inputs of the shape of its result"),
    (dataclasses.replace(MULTIPLY, inputs=("x", "two")), "operands of the sizes of its result"),
    (dataclasses.replace(MULTIPLY, inputs=("row", "row")), "operands of the sizes of its result"),
    (dataclasses.replace(MULTIPLY, rounding=Rounding.FLOAT64_HALF_AWAY), "round by one of .* not float64_half_away"),
    (dataclasses.replace(RAW, rounding=Rounding.TFLITE_DOUBLE), "round by one of .* not tflite_double"),
    (dataclasses.replace(FLOAT_ADD, constants=rescale(3)), r"must have \(inputs"),
    (constants(FLOAT, factor=np.full(6, np.nan)), "a factor of 6 numbers"),
    (constants(FLOAT, factor=np.full(6, -1.0)), "a factor of 6 numbers"),
    (constants(FLOAT, factor=np.full(5, 1.0)), "a factor of 6 numbers"),
    (kwargs(PAD, padding=(1, 0, 2, 2)), "grow by its padding"),
    (constants(PAD, value=np.zeros(2, np.int8)), r"a value of shape \(1,\)"),
    (kwargs(RAW, divisor=(-1,)), "a divisor of 1 integers from 0"),
])
def test_malformed_steps_are_refused(bad: HostStep, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        check_integer_step(bad, TENSORS)


def test_work_is_bounded() -> None:
    """A window over a few pixels, most of it padding, may still be years of work."""
    large = {"x": tensor("x", 1, 1, 1), "y": tensor("y", 1, 16000, 16000)}
    pool = step("max_pool2d", "x", "y", kwargs=WINDOW | {"kernel": (300, 300), "padding": (8149, 8149, 8149, 8149)})
    with pytest.raises(ProgramError, match="make no array of more elements than 268435456, not 531314802"):
        check_integer_step(pool, {**large, "x": tensor("x", 2, 1, 1), "y": tensor("y", 2, 16000, 16000)})
    with pytest.raises(ProgramError, match="take no more products than"):
        check_integer_step(pool, large)


def test_windows() -> None:
    assert spatial_shape((5, 7), (3, 3), (2, 2), (1, 0, 1, 0)) == (3, 3)
    assert spatial_shape((5, 5), (3, 3), (1, 1), (0, 0, 0, 0), (2, 2)) == (1, 1)
    assert spatial_shape((1, 1), (3, 3), (1, 1), (0, 0, 0, 0)) == (-1, -1)
