# SPDX-License-Identifier: Apache-2.0
"""Cells of an ECP5 as they stand in a netlist of Yosys."""

from typing import Any

__all__ = ["ADDS", "carry", "cell"]

ADDS = "1001011010101010"
"""Table of a half that adds A and B, with C at 0 and D at 1."""


def cell(kind: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **parameters: str) -> dict[str, Any]:
    return {"type": kind, "connections": inputs | outputs, "parameters": parameters,
            "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")}


def carry(cin: Any, s0: Any, cout: Any, init: str = ADDS, **others: Any) -> dict[str, Any]:
    pins = {"A0": [10], "B0": [11], "C0": ["0"], "D0": ["1"], "A1": [12], "B1": [13], "C1": ["0"], "D1": ["1"]}
    return cell("CCU2C", pins | {"CIN": [cin]} | others, {"S0": [s0], "S1": [14], "COUT": [cout]},
                INIT0=init, INIT1=init, INJECT1_0="NO", INJECT1_1="NO")
