# SPDX-License-Identifier: Apache-2.0
"""The examples: every network equals the reference, training on a user's data, and what a user can get wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tilewright as tw
from tilewright.cli import main
from tilewright.networks import NETWORKS

from .test_cli import failed

TINY = tuple(name for name in NETWORKS if name != "resnet18")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """Figures of an example that must go well."""
    assert main(["example", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def check(name: str, figures: dict[str, Any], images: int) -> None:
    network = NETWORKS[name]
    assert figures["mismatches"] == 0
    assert figures["outputs_compared"] == images * network.output_size
    assert figures["macs"] == network.macs == figures["profile"]["macs"] // images
    assert figures["cycles"] == figures["predicted_cycles"] > network.macs / 256
    assert figures["utilization"] == pytest.approx(network.macs / 256 / figures["cycles"])
    assert {layer["on"] for layer in figures["profile"]["layers"]} <= {"array", "post"}


@pytest.mark.parametrize("name", TINY)
def test_every_output_equals_the_reference(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run(capsys, name, "--images", "1")
    check(name, figures, 1)
    assert (figures["device"], figures["profile"]["config"], figures["training"]) == ("iss", "edge16", None)


def test_every_output_of_the_hardware_equals_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    """The other networks run on it in ``test_bench_record.py``, and ResNet-18 in ``test_bench_resnet18.py``."""
    figures = run(capsys, "autoencoder", "--images", "1", "--device", "rtl")
    check("autoencoder", figures, 1)
    assert figures["device"] == "rtl"


def test_mismatches_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright import examples

    def off_by_one(*arguments: Any) -> npt.NDArray[np.int8]:
        expected = examples_reference(*arguments)
        expected[0, 0] ^= 1
        return expected

    examples_reference = examples.reference_outputs
    monkeypatch.setattr(examples, "reference_outputs", off_by_one)
    assert main(["example", "autoencoder", "--images", "1"]) == 1
    assert "640 compared with the integer PyTorch reference (1 image on iss): 1 mismatches, THEY DIFFER" in (
        capsys.readouterr().out)


def test_what_is_printed_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, program = tmp_path / "a.pt2", tmp_path / "p"
    assert main(["example", "autoencoder", "--images", "1", "--config", "edge8", "--save", str(saved)]) == 0
    out = capsys.readouterr().out
    assert "autoencoder on iss (edge8), 1 image" in out
    assert "layers.27" in out
    assert "weights      random, and so are the inputs" in out
    assert "0 mismatches, all equal" in out
    assert str(saved) in out
    assert main(["compile", str(saved), "--config", "edge8", "-o", str(program)]) == 0
    cycles = tw.Program.load(program).predicted_cycles
    assert f"{cycles:,} per image measured, {cycles:,} predicted" in out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NETWORKS)
    assert "3 x 224 x 224" in out and "12,501,632" in out and "77,946" in out
    listed = run(capsys, "--list")
    assert [(n["network"], n["classes"]) for n in listed] == [(n.name, n.classes) for n in NETWORKS.values()]  # type: ignore[index]


# --- Training on a user's data.


def patterns(shape: tuple[int, ...], *, count: int, kinds: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Noisy copies of a few random patterns, and which pattern each is."""
    rng = np.random.default_rng(0)
    y = rng.integers(kinds, size=count)
    return (rng.normal(size=(kinds, *shape))[y] + rng.normal(size=(count, *shape)) / 8).astype(np.float32), y


def test_training_with_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = patterns((49, 10, 1), count=240, kinds=3)
    np.savez(tmp_path / "d.npz", x=x, y=y.astype(np.uint8), more=y)
    figures = run(capsys, "dscnn", "--data", tmp_path / "d.npz", "--epochs", "4", "--images", "2")
    check("dscnn", figures, 2)
    assert figures["training"] == {"epochs": 4, "inputs": 192, "validation_inputs": 48}
    assert figures["accuracy_float"] > 0.9
    assert figures["accuracy_int8"] == pytest.approx(figures["accuracy_float"], abs=0.05)


def test_training_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, _ = patterns((640,), count=640, kinds=2)
    np.savez(tmp_path / "d.npz", x=x.astype(np.float64))
    assert main(["example", "autoencoder", "--data", str(tmp_path / "d.npz"), "--epochs", "8", "--images", "1"]) == 0
    assert "training     8 epochs on 512 inputs; on 128 others: squared error float 0." in capsys.readouterr().out
    figures = run(capsys, "autoencoder", "--data", tmp_path / "d.npz", "--epochs", "8", "--images", "1")
    assert figures["squared_error_float"] < 0.5 * float(x.var())
    assert figures["squared_error_int8"] == pytest.approx(figures["squared_error_float"], rel=0.1)


def test_layouts_and_types_of_inputs(tmp_path: Path) -> None:
    from tilewright.example_data import load_examples

    pixels = np.random.default_rng(0).integers(256, size=(25, 3, 32, 32), dtype=np.uint8)
    y = np.arange(25) % 10
    path = tmp_path / "d.npz"
    np.savez(path, x=pixels, y=y)
    examples = load_examples(path, NETWORKS["resnet8"])
    assert [len(part) for part in (examples.train_inputs, examples.validation_inputs)] == [20, 5]
    inputs = np.concatenate([examples.train_inputs, examples.validation_inputs])
    labels = np.concatenate([examples.train_targets, examples.validation_targets])
    whole = {image.tobytes(): label for image, label in zip(pixels.astype(np.float32) / 255, y, strict=True)}
    assert {image.tobytes(): label for image, label in zip(inputs, labels, strict=True)} == whole
    np.savez(path, x=np.moveaxis(pixels, 1, -1) / np.float16(255), y=y)
    again = load_examples(path, NETWORKS["resnet8"])
    assert again.train_inputs.shape == (20, 3, 32, 32)
    np.testing.assert_allclose(again.train_inputs, examples.train_inputs, atol=1e-3)


# --- What a user can get wrong.


def example_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str | Path) -> str:
    """The error of an example that must fail, and that must not leave a file behind."""
    before = sorted(tmp_path.iterdir())
    message = failed(capsys, "example", *arguments)
    assert sorted(tmp_path.iterdir()) == before
    return message


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "d.npz"
    arguments = (capsys, tmp_path, "dscnn", "--save", tmp_path / "m.pt2", "--data", data)
    usable = "it must be a .npz file with x and y, as numpy.savez(path, x=x, y=y) writes it"
    assert example_fails(*arguments).endswith("d.npz cannot be read: No such file or directory")
    for content in (b"", b"not an archive", b"PK\x03\x04torn"):
        data.write_bytes(content)
        message = example_fails(*arguments)
        assert "d.npz cannot be used: " in message and message.endswith(usable)
    np.savez_compressed(data, x=np.zeros(1000), y=np.zeros(1))
    torn = bytearray(data.read_bytes())
    torn[80] ^= 0xFF
    data.write_bytes(torn)
    assert example_fails(*arguments).endswith(usable)
    with data.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "it is a single array" in example_fails(*arguments)
    np.savez(data, x=np.zeros(3), z=np.zeros(3))
    assert "it lacks y and has x, z" in example_fails(*arguments)
    np.savez(data, x=np.array([{}]), y=np.zeros(1))
    assert "Object arrays cannot be loaded" in example_fails(*arguments)
    assert "it must be a .npz file with x, as" in example_fails(capsys, tmp_path, "autoencoder", "--data", data)


GOOD_X, GOOD_Y = np.zeros((12, 1, 49, 10), np.float32), np.zeros(12, int)
NAN = np.where(np.arange(12)[:, None, None, None] == 7, np.nan, GOOD_X)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (GOOD_X.astype(np.int64), GOOD_Y, "must be floating point, or uint8 (which is divided by 255), not int64"),
        (GOOD_X[:, 0], GOOD_Y, "must have shape (N, 1, 49, 10) or (N, 49, 10, 1) for dscnn, not (12, 49, 10)"),
        (np.float32(1), GOOD_Y, "must have shape (N, 1, 49, 10) or (N, 49, 10, 1) for dscnn, not ()"),
        (GOOD_X[:9], GOOD_Y[:9], "must hold at least 10 inputs, not 9"),
        (NAN, GOOD_Y, "must be finite float32, but 490 values are NaN or infinity, the first in input 7"),
        (np.full(GOOD_X.shape, 1e300), GOOD_Y, "must be finite float32, but 5880 values are NaN or infinity"),
        (GOOD_X, GOOD_Y.astype(np.float32), "must be integers, the number of each input's class, not float32"),
        (GOOD_X, GOOD_Y[:11], "must have shape (12,), one label for each input, not (11,)"),
        (GOOD_X, np.eye(12, dtype=int), "must have shape (12,), one label for each input, not (12, 12)"),
        (GOOD_X, np.arange(12) + 1, "must be 0 to 11, but label 11 is 12"),
        (GOOD_X, np.arange(12) - 3, "must be 0 to 11, but label 0 is -3"),
    ],
)
def test_bad_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str], x: Any, y: Any, message: str) -> None:
    data = tmp_path / "d.npz"
    np.savez(data, x=x, y=y)
    found = example_fails(capsys, tmp_path, "dscnn", "--data", data, "--save", tmp_path / "m.pt2")
    assert f"of {data} {message}" in found


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "d.npz"
    np.savez(data, x=GOOD_X, y=GOOD_Y)
    fails = (capsys, tmp_path, "dscnn")
    assert "--images must be at least 1, not 0" in example_fails(*fails, "--images", "0")
    assert "--images must be at most 2, the inputs of" in example_fails(*fails, "--data", data, "--images", "3")
    assert "--epochs must be at least 1, not 0" in example_fails(*fails, "--data", data, "--epochs", "0")
    assert "--epochs 3 needs data to train on: pass --data" in example_fails(*fails, "--epochs", "3")
    assert "or a .toml file, not 'edge9'" in example_fails(*fails, "--config", "edge9")
    assert "--save must name a .pt2 file" in example_fails(*fails, "--save", tmp_path / "m.onnx")
    assert "there is no folder" in example_fails(*fails, "--save", tmp_path / "no" / "m.pt2")


@pytest.mark.parametrize("arguments", [(), ("lenet",), ("dscnn", "--list")])
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["example", *arguments])
    assert exit_.value.code == 2
    assert "tilewright example: error: argument" in capsys.readouterr().err.replace("one of the arguments", "argument")
