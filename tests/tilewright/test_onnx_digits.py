# SPDX-License-Identifier: Apache-2.0
"""A network for digits, quantized by onnxruntime in both formats, from the file to the simulator."""

from pathlib import Path

import numpy as np
import pytest

import tilewright as tw
from tests.mapper.onnx.digits import FORMATS, images, quantized_digits
from tests.mapper.onnx.golden import golden
from tests.mapper.onnx.models import is_exact, run
from tests.tilewright.agreement import Devices
from tilewright_hdl.numerics import Rounding
from tilewright_mapper.distance import distance
from tilewright_mapper.graph import AvgPool2d, Graph
from tilewright_mapper.onnx.importer import import_onnx
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.rounding import with_rounding

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("form", FORMATS)]


def graph_of(form: str) -> Graph:
    return canonicalize(import_onnx(quantized_digits(form)))


def test_reference_is_the_golden_model(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    x, classes = images()
    graph = graph_of(form)
    results = reference_run(graph, x)
    expected = golden(quantized_digits(form), x)
    compared = 0
    for node in graph:
        name = node.output
        if name in expected:
            offset = 128 if expected[name].dtype == np.uint8 else 0
            np.testing.assert_array_equal(results[name] + np.float32(offset), expected[name])
            compared += results[name].size
    # All but the pool of integers that has no name in a QDQ file.
    assert compared > 2_000_000
    assert np.mean(results[graph.outputs[0]].argmax(1) == classes) > 0.93
    with capsys.disabled():
        print(f"\n{form}: {compared:,} values compared with the golden model, 0 differ")


def test_distance_to_onnxruntime(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not is_exact("uint8" if "uint8" in form else "int8"):
        pytest.skip("onnxruntime's kernels are not exact on this machine")
    x, classes = images()
    graph = graph_of(form)
    scale, _ = graph.tensor(graph.nodes[-1].inputs[0]).quantization
    theirs = run(quantized_digits(form), {"x": x})["y"]
    steps = np.rint(np.abs(theirs - reference_run(graph, x)["y"]) / scale)
    with capsys.disabled():
        differing = np.count_nonzero(steps)
        print(f"\n{form}: {differing} of {steps.size} logits differ from onnxruntime, by {steps.max():.0f} at most")
    # A QDQ graph runs there in floats, whose errors decide where an average lies halfway.
    assert np.count_nonzero(steps) == 0 or form.startswith("QDQ")
    assert steps.max() <= 3
    assert np.mean(theirs.argmax(1) == classes) > 0.93


def test_distance_of_the_hardware_rule(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only an average of four pixels without a change of scale has many ties; halves up are not halves to even."""
    x, _ = images()
    graph = graph_of(form)
    measured = distance(graph, x)
    ties = {n.output for n in graph if isinstance(n, AvgPool2d)}
    for layer in measured.layers:
        assert layer.largest <= 1
        assert layer.differing <= (0.2 * layer.values if layer.tensor in ties else 3)
    (logits,) = measured.outputs
    assert logits.largest <= 3
    with capsys.disabled():
        total, differing = (sum(getattr(layer, key) for layer in measured.layers) for key in ("values", "differing"))
        print(f"\n{form}: single differs from float_half_even in {differing} of {total:,} values, layer by layer, and "
              f"in {logits.differing} of {logits.values} logits")


def test_simulator_equals_the_hardware_rule(form: str, tmp_path: Path, devices: Devices) -> None:
    x, _ = images()
    path = tmp_path / "digits.onnx"
    path.write_bytes(quantized_digits(form))
    program = tw.compile(path, config="edge8", rounding="single")
    expected = reference_run(with_rounding(graph_of(form), Rounding.SINGLE), x)
    found = devices.get("iss", program.config).run(program, x)
    np.testing.assert_array_equal(found, expected["y"])
    measured = program.report["distance"]
    assert (measured["rounding"], measured["framework"]) == ("single", "float_half_even")
    assert measured["layers"]["values"] > 9000 and measured["layers"]["largest"] <= 1


def test_the_golden_model_on_the_host(form: str, tmp_path: Path, devices: Devices) -> None:
    """With its own rule each rescale runs on the host, and nothing differs from the golden model."""
    x = images()[0][:20]
    path = tmp_path / "digits.onnx"
    path.write_bytes(quantized_digits(form))
    program = tw.compile(path, config="nano4", rounding="float_half_even")
    found = devices.get("iss", program.config).run(program, x)
    np.testing.assert_array_equal(found, golden(quantized_digits(form), x)["y"])
