# SPDX-License-Identifier: Apache-2.0
"""``tilewright bench``: figures that add up, tables, and what can go wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.tilewright.failures import failed
from tilewright import bench, bench_record
from tilewright.bench_tables import CAUSES, lost
from tilewright.cli import main
from tilewright.networks import NETWORKS
from tilewright_hdl.config import load_config

KEYS = {"network", "config", "device", "macs", "bound", "cycles", "predicted_cycles", "utilization", "outputs",
        "mismatches", "vectors", "stalls", "traffic", "layers", "setup_cycles"}
LAYER_KEYS = {"name", "op", "on", "macs", "bound", "cycles", "predicted_cycles", "utilization", "vectors", "stalls",
              "traffic"}


@pytest.fixture(scope="module")
def prepared() -> bench.Prepared:
    return bench.prepare(NETWORKS["autoencoder"], load_config("edge16"), quiet=True)


@pytest.fixture(scope="module")
def autoencoder(prepared: bench.Prepared) -> dict[str, Any]:
    return bench.measure(prepared, "iss", quiet=True)


@pytest.fixture
def measured(autoencoder: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Devices of measurements, which all give the autoencoder's figures under the name that was asked for."""
    devices = []

    def measure(name: str, device: str, *, quiet: bool) -> dict[str, Any]:
        devices.append(device)
        return autoencoder | {"network": name}

    monkeypatch.setattr(bench, "prepare", lambda network, config, *, quiet: network.name)
    monkeypatch.setattr(bench, "measure", measure)
    return devices


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the record and of its page."""
    for name in ("RECORD", "PAGE"):
        path = getattr(bench_record, name)
        (tmp_path / path.name).write_bytes(path.read_bytes())
        monkeypatch.setattr(bench_record, name, tmp_path / path.name)
    return tmp_path


def test_figures_add_up(autoencoder: dict[str, Any]) -> None:
    found = autoencoder
    assert set(found) == KEYS and all(set(layer) == LAYER_KEYS for layer in found["layers"])
    assert (found["network"], found["config"], found["device"]) == ("autoencoder", "edge16", "iss")
    assert (found["outputs"], found["mismatches"]) == (2 * 640, 0)
    assert (found["macs"], found["bound"]) == (264_192, 1_032)
    assert found["utilization"] == pytest.approx(264_192 / 256 / found["cycles"])
    for part in (found, *found["layers"]):
        assert part["cycles"] == part["predicted_cycles"] == part["vectors"] + sum(part["stalls"].values())
        assert part["bound"] <= part["vectors"]
        assert set(lost(part)) == set(CAUSES)
        assert part["cycles"] == part["bound"] + sum(lost(part).values())
    for key in ("macs", "cycles", "predicted_cycles", "vectors"):
        assert sum(layer[key] for layer in found["layers"]) == found[key]
    for kind in ("constants", "loaded", "stored"):
        assert sum(layer["traffic"][kind] for layer in found["layers"]) == found["traffic"][kind]
    # Most of the weights stay on chip, and come there at 16 bytes a cycle at best.
    assert found["setup_cycles"] > (264_192 - found["traffic"]["constants"]) / 16 > 10_000
    assert found["traffic"]["loaded"] >= 640 and found["traffic"]["stored"] >= 640


def test_the_second_inference_is_measured(prepared: bench.Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright_driver.device import Device

    inputs = []
    run = Device.run

    def watched(self: Device, program: Any, x: npt.NDArray[Any], **options: Any) -> Any:
        inputs.append(x)
        return run(self, program, x, **options)

    monkeypatch.setattr(Device, "run", watched)
    found = bench.measure(prepared, "iss", quiet=True)
    first, second = inputs
    assert first.shape == second.shape == (1, 640) and not np.array_equal(first, second)
    assert found["macs"] == 264_192


def test_mismatches_are_counted_and_fail(prepared: bench.Prepared, checkout: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    expected = prepared.expected.copy()
    expected[0, :2] ^= 1
    expected[1, 5] ^= 1
    monkeypatch.setattr(bench, "prepare", lambda *_, quiet: replace(prepared, expected=expected))
    before = bench_record.RECORD.read_bytes()
    assert main(["bench", "--only", "autoencoder", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["mismatches"] == 3
    assert "outputs of autoencoder differ" in failed(capsys, "bench", "--only", "autoencoder", "--update")
    assert bench_record.RECORD.read_bytes() == before


def test_what_is_printed_and_saved(measured: list[str], autoencoder: dict[str, Any], tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.md"
    arguments = ["bench", "--only", "dscnn", "--only", "autoencoder", "--device", "rtl", "-o", str(path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    cycles = f"{autoencoder['cycles']:,}"
    assert out.count(cycles) == 4 and "layers.27" not in out and str(path) in out
    assert measured == ["rtl", "rtl"]
    text = path.read_text()
    assert "## dscnn" in text and text.count("| layers.27 |") == 2
    assert f"| autoencoder | 1,032 | {cycles} | {cycles} |" in text
    assert main([*arguments, "--layers"]) == 0
    assert capsys.readouterr().out.count("layers.27") == 2


def test_all_networks_are_the_default(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json"]) == 0
    assert [result["network"] for result in json.loads(capsys.readouterr().out)] == list(NETWORKS)
    assert measured == ["iss"] * len(NETWORKS)


def test_an_update_replaces_what_was_measured(measured: list[str], autoencoder: dict[str, Any], checkout: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    before = bench_record.read_record()
    assert main(["bench", "--only", "dscnn", "--update"]) == 0
    assert "cycles.json" in capsys.readouterr().out
    after = bench_record.read_record()
    assert list(after) == list(NETWORKS)
    assert after.pop("dscnn") == autoencoder | {"network": "dscnn"}
    assert after.items() <= before.items()
    row = f"| dscnn | 264,192 | 1,032 | {autoencoder['cycles']:,} | {bench_record.TARGETS['dscnn']:,} |"
    assert row in bench_record.PAGE.read_text()
    assert not [path for path in checkout.iterdir() if path.name.startswith(".")]


def test_what_can_go_wrong(measured: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                           monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no folder" in failed(capsys, "bench", "--only", "dscnn", "-o", tmp_path / "no" / "t.md")
    assert "--config must be left out, not edge8" in failed(capsys, "bench", "--config", "edge8", "--update")
    assert measured == []
    monkeypatch.setattr(bench_record, "RECORD", tmp_path / "cycles.json")
    assert "must run in a checkout" in failed(capsys, "bench", "--only", "dscnn", "--update")
    with pytest.raises(SystemExit):
        main(["bench", "--only", "nobody"])
    assert "invalid choice: 'nobody'" in capsys.readouterr().err
