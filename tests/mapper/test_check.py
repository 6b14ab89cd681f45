# SPDX-License-Identifier: Apache-2.0
"""The check before compiling: every operator with its place, every problem at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.check import Report, check_model
from tilewright_mapper.frontend import load_model
from tilewright_mapper.pipeline import compile_graph

from .tflite.models import ModelBuilder

NANO4 = PRESETS["nano4"]


def checked(path: Path, config: AcceleratorConfig = NANO4) -> Report:
    model = load_model(path)
    return check_model(model, model.for_hardware(), config)


def small(tmp_path: Path, *, odd: bool = False) -> Path:
    """A convolution, a softmax behind a reshape; with ``odd`` two operators between that nothing here computes."""
    build = ModelBuilder()
    x = build.tensor((1, 4, 4, 3), "int8", scale=0.1, zero_point=1, name="x")
    weight = build.tensor((5, 1, 1, 3), "int8", scale=np.full(5, 0.02), zero_point=np.zeros(5, int),
                          data=np.ones((5, 1, 1, 3), np.int8), name="w")
    bias = build.tensor((5,), "int32", scale=np.full(5, 0.002), zero_point=np.zeros(5, int), data=np.zeros(5, np.int32),
                        name="b")
    last = build.tensor((1, 4, 4, 5), "int8", scale=0.1, name="conv")
    build.op("CONV_2D", [x, weight, bias], [last], padding="SAME", stride_h=1, stride_w=1)
    for name in ("COS", "ROUND") if odd else ():
        following = build.tensor((1, 4, 4, 5), "int8", scale=0.1, name=name.lower())
        build.op(name, [last], [following])
        last = following
    flat = build.tensor((1, 80), "int8", scale=0.1, name="flat")
    shape = build.tensor((2,), "int32", data=np.array([1, 80], np.int32), name="shape")
    build.op("RESHAPE", [last, shape], [flat], new_shape=[1, 80])
    y = build.tensor((1, 80), "int8", scale=1 / 256, zero_point=-128, name="y")
    build.op("SOFTMAX", [flat], [y], beta=1.0)
    path = tmp_path / "small.tflite"
    path.write_bytes(build.bytes([x], [y]))
    return path


def test_places_and_reasons_in_the_order_of_the_model(tmp_path: Path) -> None:
    report = checked(small(tmp_path))
    assert list(dict.fromkeys((f.name, f.operator, f.place) for f in report.findings)) == [
        ("0: conv", "CONV_2D", "array"), ("1: flat", "RESHAPE", "host"), ("2: y", "SOFTMAX", "host")]
    assert (report.framework, report.problems) == ("TFLite", ())
    assert all(f.reason for f in report.findings if f.place == "host")


def test_every_problem_at_once(tmp_path: Path) -> None:
    path = small(tmp_path, odd=True)
    report = checked(path)
    refused = [f for f in report.findings if f.place == "refused"]
    assert [f.operator for f in refused] == ["COS", "ROUND"]
    assert len(report.problems) == 2
    with pytest.raises(ModelError) as error:
        compile_graph(load_model(path).for_hardware(), NANO4)
    assert all(problem in str(error.value) for problem in report.problems)


def test_a_rounding_rule_that_is_missing_is_named(tmp_path: Path) -> None:
    config = replace(NANO4, post=replace(NANO4.post, roundings=(Rounding.SINGLE,)))
    (problem,) = checked(small(tmp_path), config).problems
    assert "need 'tflite_double': add it to post.roundings" in problem
    model = load_model(small(tmp_path))
    assert not check_model(model, model.for_hardware(Rounding.SINGLE), config).problems


def test_layers_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    """A fully connected layer needs all of its input at once, for which there may be no room."""
    build = ModelBuilder()
    x = build.tensor((1, 30000), "int8", scale=0.1, name="x")
    outputs = []
    for number in range(2):
        weight = build.tensor((2, 30000), "int8", scale=0.1, data=np.ones((2, 30000), np.int8), name=f"w{number}")
        outputs.append(build.tensor((1, 2), "int8", scale=100.0, name=f"y{number}"))
        build.op("FULLY_CONNECTED", [x, weight], [outputs[-1]])
    path = tmp_path / "large.tflite"
    path.write_bytes(build.bytes([x], outputs))
    report = checked(path)
    assert len(report.problems) == 2
    assert all("does not fit configuration 'nano4'; enlarge what is exceeded" in p for p in report.problems)
    with pytest.raises(ModelError, match="does not fit"):
        compile_graph(load_model(path).for_hardware(), NANO4)
    assert not checked(path, PRESETS["edge16"]).problems


def test_claims_of_any_size_end_at_once(tmp_path: Path) -> None:
    """A file of a few hundred bytes may claim an image of any size."""
    build = ModelBuilder()
    x = last = build.tensor((1, 30000, 15000, 1), "int8", scale=0.1, name="x")
    for number in range(3):
        following = build.tensor((1, 30000, 15000, 1), "int8", scale=0.1, name=f"y{number}")
        build.op("ADD", [last, x], [following], fused_activation_function="NONE")
        last = following
    path = tmp_path / "claim.tflite"
    path.write_bytes(build.bytes([x], [last]))
    report = checked(path)
    assert len(report.problems) == 3
    assert "must be cut into at most 16384 tiles, but has 450000000 words of activations" in report.problems[0]
    with pytest.raises(ModelError, match="must be cut into at most 16384 tiles"):
        compile_graph(load_model(path).for_hardware(), NANO4)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    for name, message in (("m.h5", r"must end in .pt2, .tflite, .onnx, not in '.h5'"), ("no.tflite", "cannot be read")):
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path / name)
    (tmp_path / "bad.tflite").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"bad.tflite: "):
        load_model(tmp_path / "bad.tflite")


def test_report_is_plain_data(tmp_path: Path) -> None:
    data = checked(small(tmp_path)).to_dict()
    assert data["runs"] is True
    assert {"name", "operator", "place", "reason"} == set(data["operators"][0])
