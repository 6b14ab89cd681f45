# SPDX-License-Identifier: Apache-2.0
"""The demo: data, training, and the whole of it."""

import json
from pathlib import Path

import pytest
import torch

from tilewright.cli import main
from tilewright.demo.network import ResidualNet, load_digits, train
from tilewright.training import accuracy


def test_digits_are_split_without_overlap() -> None:
    digits = load_digits()
    assert digits.train_images.shape == (1257, 1, 8, 8)
    assert digits.test_images.shape == (540, 1, 8, 8)
    assert 0 <= float(digits.train_images.min()) < float(digits.train_images.max()) == 1
    seen = {image.numpy().tobytes() for image in digits.train_images}
    assert sum(image.numpy().tobytes() in seen for image in digits.test_images) < 5


def test_training_learns_and_repeats() -> None:
    digits = load_digits()
    threads = torch.get_num_threads()
    seen: list[int] = []
    first, second = train(digits, epochs=2, progress=seen.append), train(digits, epochs=2)
    assert seen == [1, 2]
    assert torch.get_num_threads() == threads
    weights = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    with torch.no_grad():
        untrained = accuracy(ResidualNet().eval()(digits.test_images), digits.test_labels)
        assert untrained < 0.4 < 0.7 < accuracy(first(digits.test_images), digits.test_labels)


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "t.json"
    assert main(["demo", "--json", "--trace", str(trace)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["mismatches"] == 0
    assert data["logits_compared"] == (540 + 64) * 10
    assert data["accuracy_int8"] >= 0.98
    assert data["accuracy_hardware"] == data["accuracy_int8"]
    assert abs(data["accuracy_float"] - data["accuracy_int8"]) < 0.01
    assert data["utilization"] == pytest.approx(data["rtl"]["macs"] / 64 / data["rtl"]["cycles"])
    assert abs(data["cycles"] - data["predicted_cycles"]) <= data["cycles"] * 0.01
    assert {e["ph"] for e in json.loads(trace.read_text())["traceEvents"]} >= {"M", "X"}
    assert main(["demo", "--rtl-images", "1", "--config", "nano4", "--trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "0 mismatches, all equal" in out
    assert str(trace) in out


def test_a_silly_number_of_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rtl-images", "0"]) == 1
    assert "--rtl-images must be 1 to 540, not 0" in capsys.readouterr().err
