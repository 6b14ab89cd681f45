# SPDX-License-Identifier: Apache-2.0
"""What is taken out of a netlist, and what stays."""

import json
from pathlib import Path
from typing import Any

import pytest

from tilewright_boards.netlists import routable
from tilewright_hdl.errors import BuildError


def cell(kind: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> dict[str, Any]:
    return {"type": kind, "connections": inputs | outputs,
            "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")}


NETLIST = {"modules": {"top": {
    "ports": {"o": {"direction": "output", "bits": [9]}},
    "cells": {
        "first": cell("CCU2C", {"CIN": ["0"]}, {"COUT": [2], "S0": [3]}),
        "last": cell("CCU2C", {"CIN": [2]}, {"COUT": [4], "S0": [5]}),
        "read": cell("CCU2C", {"CIN": ["1"]}, {"COUT": [6]}),
        "out": cell("CCU2C", {"CIN": ["1"]}, {"COUT": [9]}),
        "lut": cell("LUT4", {"A": [6], "B": [3]}, {"Z": [7]}),
        "note": cell("$scopeinfo", {}, {}),
    },
}}}


def test_carries_and_notes(tmp_path: Path) -> None:
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps(NETLIST))
    cells = json.loads(routable(path, "top"))["modules"]["top"]["cells"]
    assert {name: one["connections"].get("COUT") for name, one in cells.items()} == {
        "first": [2], "last": ["x"], "read": [6], "out": [9], "lut": None}
    before = NETLIST["modules"]["top"]["cells"]
    assert {name for name, one in cells.items() if one != before[name]} == {"last"}  # type: ignore[index]


@pytest.mark.parametrize("text", ["{", "{}", '{"modules": {"other": {}}}'])
def test_no_netlist(tmp_path: Path, text: str) -> None:
    path = tmp_path / "netlist.json"
    path.write_text(text)
    with pytest.raises(BuildError, match="must be JSON of Yosys with the module 'top'"):
        routable(path, "top")
