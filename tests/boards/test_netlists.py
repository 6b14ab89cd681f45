# SPDX-License-Identifier: Apache-2.0
"""What is taken out of a netlist, and what stays."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.boards.cells import carry, cell
from tilewright_boards.netlists import routable
from tilewright_hdl.errors import BuildError


def changed(tmp_path: Path, cells: dict[str, Any], outputs: list[int]) -> dict[str, Any]:
    path = tmp_path / "netlist.json"
    ports = {"o": {"direction": "output", "bits": outputs}}
    path.write_text(json.dumps({"modules": {"top": {"ports": ports, "cells": cells}}}))
    found: dict[str, Any] = json.loads(routable(path, "top"))["modules"]["top"]["cells"]
    return found


def test_carries_and_notes(tmp_path: Path) -> None:
    before = {
        "first": carry(7, 3, 2),
        "last": carry(2, 5, 4),
        "read": carry(7, 15, 6),
        "out": carry(7, 16, 9),
        "lut": cell("LUT4", {"A": [6], "B": [3]}, {"Z": [8]}),
        "note": cell("$scopeinfo", {}, {}),
    }
    cells = changed(tmp_path, copy.deepcopy(before), [9])
    assert {name: one["connections"].get("COUT") for name, one in cells.items()} == {
        "first": [2], "last": ["x"], "read": [6], "out": [9], "lut": None}
    assert {name for name, one in cells.items() if one != before[name]} == {"last"}


def test_luts_of_a_gowin_stay(tmp_path: Path) -> None:
    before = {"lut": cell("LUT4", {f"I{place}": [10 + place] for place in range(4)}, {"F": [20]}, INIT="0" * 16)}
    assert changed(tmp_path, copy.deepcopy(before), [20]) == before


@pytest.mark.parametrize("text", ["{", "{}", '{"modules": {"other": {}}}'])
def test_no_netlist(tmp_path: Path, text: str) -> None:
    path = tmp_path / "netlist.json"
    path.write_text(text)
    with pytest.raises(BuildError, match="must be JSON of Yosys with the module 'top'"):
        routable(path, "top")
