# SPDX-License-Identifier: Apache-2.0
"""The command line on models of other frameworks."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.mapper.tflite.models import ModelBuilder, reference
from tilewright.cli import main

from .failures import failed


def test_models_of_other_frameworks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``check`` tells what would run where; ``run`` takes the model itself, in its own layout and types."""
    model, wrong = tmp_path / "net.tflite", tmp_path / "wrong.tflite"
    model.write_bytes(tiny_model())
    wrong.write_bytes(tiny_model("COS", "ROUND"))
    assert main(["check", str(model), "--config", "nano4"]) == 0
    out = capsys.readouterr().out
    assert "net.tflite (TFLite) on nano4" in out and "CONV_2D" in out and "can be compiled (1 array, 1 host)" in out
    assert "on the host: 1: y (SOFTMAX)" in out
    assert main(["check", str(wrong), "--config", "nano4", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["runs"] and len(report["problems"]) == 2
    assert [o["place"] for o in report["operators"]].count("refused") == 2
    assert main(["check", str(wrong)]) == 1
    assert "wrong.tflite cannot be compiled: 2 problems" in capsys.readouterr().out
    said = failed(capsys, "compile", wrong, "--config", "nano4", "-o", tmp_path / "p")
    assert said.count("\n  - ") == 2 and not (tmp_path / "p").exists()

    x = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 2)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    y = tmp_path / "y.npy"
    assert main(["run", str(model), "--input", str(tmp_path / "x.npy"), "--config", "nano4", "--output", str(y)]) == 0
    out = capsys.readouterr().out
    assert "net on iss (nano4), 2 images" in out and "of the time at 100 MHz: no engine computes softmax" in out
    expected = np.concatenate([reference(tiny_model(), image[None])["y"] for image in x])
    assert np.array_equal(np.load(y), expected)
    np.save(tmp_path / "x.npy", x.view(np.int8))
    assert "must be floating point (it is quantized on the way in) or uint8, not int8" in failed(
        capsys, "run", model, "--input", tmp_path / "x.npy", "--config", "nano4")


def tiny_model(*more: str) -> bytes:
    """A uint8 model of TFLite's first generation: a convolution, operators of one tensor, a softmax."""
    build = ModelBuilder()
    x = build.tensor((1, 3, 3, 2), "uint8", scale=0.1, zero_point=100, name="x")
    rng = np.random.default_rng(1)
    weight = build.tensor((4, 3, 3, 2), "uint8", scale=0.01, zero_point=131, name="w",
                          data=rng.integers(0, 256, (4, 3, 3, 2)).astype(np.uint8))
    bias = build.tensor((4,), "int32", scale=0.001, data=rng.integers(-900, 900, 4).astype(np.int32), name="b")
    last = build.tensor((1, 1, 1, 4), "uint8", scale=0.05, zero_point=128, name="conv")
    build.op("CONV_2D", [x, weight, bias], [last], padding="VALID", stride_h=1, stride_w=1)
    for kind in more:
        following = build.tensor((1, 1, 1, 4), "uint8", scale=0.05, zero_point=128, name=kind.lower())
        build.op(kind, [last], [following])
        last = following
    y = build.tensor((1, 1, 1, 4), "uint8", scale=1 / 256, name="y")
    build.op("SOFTMAX", [last], [y], beta=1.0)
    return build.bytes([x], [y])


def test_layers_that_do_not_fit_are_refused_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = ModelBuilder()
    x = build.tensor((1, 30000), "int8", scale=0.1, name="x")
    outputs = [build.tensor((1, 2), "int8", scale=100.0, name=f"y{number}") for number in range(2)]
    for y in outputs:
        weight = build.tensor((2, 30000), "int8", scale=0.1, data=np.ones((2, 30000), np.int8))
        build.op("FULLY_CONNECTED", [x, weight], [y])
    model = tmp_path / "large.tflite"
    model.write_bytes(build.bytes([x], outputs))
    said = failed(capsys, "compile", model, "--config", "nano4", "-o", tmp_path / "p")
    assert said.count("\n  - ") == said.count("does not fit configuration 'nano4'") == 2
