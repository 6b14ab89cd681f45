# SPDX-License-Identifier: Apache-2.0
"""No network is slower than its record, none misses its target, and the page of documentation says the same.

The record is ``benchmarks/cycles.json``; ``tilewright bench --update`` renews it. ``test_bench_resnet18.py`` has the
network that would take too long on the hardware.
"""

import warnings
from typing import Any

import pytest

from tilewright.bench import measure, prepare
from tilewright.bench_record import CONFIG, PAGE, TARGETS, UPDATE, read_record, target_cycles
from tilewright.bench_tables import fill
from tilewright.networks import NETWORKS
from tilewright_hdl.config import load_config

README = PAGE.parents[1] / "README.md"


class StaleRecord(UserWarning):
    """A network is faster than its record."""


def compare(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Fail if a network has become slower; warn if it has become faster."""
    name, cycles, before = found["network"], found["cycles"], recorded["cycles"]
    renew = f"{UPDATE} --only {name}"
    if cycles > before:
        worse = sorted(zip(found["layers"], recorded["layers"], strict=False),
                       key=lambda pair: pair[1]["cycles"] - pair[0]["cycles"])
        layers = ", ".join(f"{a['name']} {b['cycles']:,} -> {a['cycles']:,}" for a, b in worse[:3])
        pytest.fail(f"{name} takes {cycles:,} cycles, {cycles - before:,} more than its record of {before:,} "
                    f"(layers: {layers}). Make it faster again; or, if the change is worth it, run `{renew}` and "
                    "commit the record with the reason")
    if cycles < before:
        warnings.warn(f"{name} takes {cycles:,} cycles, {before - cycles:,} fewer than its record, which is stale: run "
                      f"`{renew}` and commit the record", StaleRecord, stacklevel=2)


def check_equal(found: dict[str, Any]) -> None:
    """All outputs equal the reference, and all layers take the cycles that were predicted."""
    assert found["mismatches"] == 0
    assert found["cycles"] == found["predicted_cycles"]
    for layer in found["layers"]:
        assert layer["cycles"] == layer["predicted_cycles"], layer
        assert layer["bound"] <= layer["cycles"]


@pytest.mark.slow
@pytest.mark.filterwarnings(f"default::{__name__}.StaleRecord")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet18"])
def test_no_network_is_slower_on_the_hardware_than_its_record(name: str) -> None:
    found = measure(prepare(NETWORKS[name], load_config(CONFIG), quiet=True), "rtl", quiet=True)
    check_equal(found)
    compare(found, read_record()[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_targets_are_reached(name: str) -> None:
    assert read_record()[name]["cycles"] <= target_cycles(name)


def test_the_record_is_sound() -> None:
    record = read_record()
    assert list(record) == list(TARGETS) == list(NETWORKS)
    for name, result in record.items():
        assert (result["config"], result["macs"], result["mismatches"]) == (CONFIG, NETWORKS[name].macs, 0)
        assert result["outputs"] % NETWORKS[name].output_size == 0
        assert sum(layer["cycles"] for layer in result["layers"]) == result["cycles"]


def test_the_page_says_what_the_record_says() -> None:
    record = read_record()
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, list(record.values()), {name: target_cycles(name) for name in record}) == page
    for result in record.values():
        assert f"{result['cycles']:,}" in page


def test_the_readme_says_what_the_record_says() -> None:
    record, readme = read_record(), README.read_text(encoding="utf-8")
    for name in ("resnet8", "mobilenet"):
        assert f"{record[name]['cycles']:,}" in readme
    shares = {name: f"{record[name]['utilization']:.0%}".replace("%", " %") for name in ("resnet8", "resnet18")}
    assert f"{shares['resnet8']} of the array's peak" in readme
    assert f"{record['resnet18']['cycles'] / 1e6:.2f} million, {shares['resnet18']}" in readme


def test_a_page_without_marks_is_refused() -> None:
    record = read_record()
    page = PAGE.read_text(encoding="utf-8").replace("<!-- table dscnn -->", "")
    with pytest.raises(ValueError, match="must have <!-- table dscnn -->"):
        fill(page, list(record.values()), dict.fromkeys(record, 1))


def test_slower_fails_and_faster_warns() -> None:
    recorded = read_record()["dscnn"]
    slow, *layers = recorded["layers"]
    slower = recorded | {"cycles": recorded["cycles"] + 7, "layers": [slow | {"cycles": slow["cycles"] + 7}, *layers]}
    compare(recorded, recorded)
    with pytest.raises(pytest.fail.Exception, match=rf"7 more than its record .*{slow['name']}.*bench --update"):
        compare(slower, recorded)
    with pytest.warns(StaleRecord, match=r"7 fewer than its record.*--only dscnn"):
        compare(recorded, slower)


def test_the_targets() -> None:
    assert target_cycles("resnet8") == 54_000
    # 264,192 weights are 16,512 beats of 16 bytes; all products together would take 1,032 cycles.
    assert target_cycles("autoencoder") == 18_988
