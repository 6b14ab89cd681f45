# SPDX-License-Identifier: Apache-2.0
"""Gates that are copied for a few of their readers."""

import copy
from typing import Any

import pytest

from tests.boards.cells import cell
from tilewright_boards.copies import copy_for_the_few

Cells = dict[str, Any]


def gate(kind: str) -> Cells:
    """A gate that gives bit 9, of bits 1 to 5."""
    def lut(first: int, output: int, table: str) -> dict[str, Any]:
        return cell("LUT4", {pin: [first + place] for place, pin in enumerate("ABCD")}, {"Z": [output]}, INIT=table)

    if kind == "LUT4":
        return {"gate": lut(1, 9, "1000000000000000")}
    return {"a": lut(1, 7, "1000000000000000"), "b": lut(1, 8, "0000000000000001"),
            "gate": cell("PFUMX", {"ALUT": [7], "BLUT": [8], "C0": [5]}, {"Z": [9]})}


def register(name: str, width: int) -> Cells:
    return {f"{name}_TRELLIS_FF_Q_{place}": cell("TRELLIS_FF", {"DI": [100 + place], "CE": [9]}, {"Q": [200 + place]})
            for place in range(width)}


@pytest.mark.parametrize("kind", ["LUT4", "PFUMX"])
def test_the_few_get_a_gate_of_their_own(kind: str) -> None:
    before = gate(kind) | register("word", 40) | register("count", 5)
    cells = copy.deepcopy(before)
    copy_for_the_few(cells)
    own = cells["gate$copy"]
    output = own["connections"]["Z"]
    assert output[0] > 239
    for name, one in cells.items():
        if name.startswith("count"):
            assert one["connections"]["CE"] == output
        elif name in before:
            assert one == before[name], name
    assert own["parameters"] == before["gate"]["parameters"]
    if kind == "LUT4":
        assert own["connections"] | {"Z": [9]} == before["gate"]["connections"]
        return
    assert own["connections"]["C0"] == [5]
    halves = [cells[f"gate${half}"] for half in ("ALUT", "BLUT")]
    for half, pin, old in zip(halves, ("ALUT", "BLUT"), ("a", "b"), strict=True):
        assert half["connections"]["Z"] == own["connections"][pin] != before["gate"]["connections"][pin]
        assert half["connections"] | {"Z": before[old]["connections"]["Z"]} == before[old]["connections"]
        assert half["parameters"] == before[old]["parameters"]
    assert len({one["connections"]["Z"][0] for one in (own, *halves)}) == 3


@pytest.mark.parametrize(("wide", "narrow"), [(40, 0), (39, 5), (0, 5)])
def test_others_stay(wide: int, narrow: int) -> None:
    before = gate("LUT4") | register("word", wide) | register("count", narrow)
    cells = copy.deepcopy(before)
    copy_for_the_few(cells)
    assert cells == before
