# SPDX-License-Identifier: Apache-2.0
"""Verilog-2005 text of a netlist, written so that ``verilator -Wall`` has nothing to say.

Both sides of each operator and assignment have the same width, written out; only bits that are used are declared. A
bit that a module must give or take but that nobody uses goes to a wire whose name begins with ``unused``.
"""

from collections.abc import Sequence

from .liveness import REGISTERS, live_bits
from .netlist import Cell, Netlist
from .verilog_cells import combinational
from .verilog_memory import memory_text
from .verilog_names import Names, runs

__all__ = ["write_module"]

_INDENT = "  "


def write_module(name: str, netlist: Netlist) -> str:
    """Verilog text of a netlist as the module ``name``."""
    return _Module(name, netlist).text()


class _Module:
    def __init__(self, name: str, netlist: Netlist):
        self._name = name
        self._netlist = netlist
        self._names = Names(netlist)
        self._declarations: list[str] = []
        self._body: list[str] = []
        self._initial: list[str] = []
        self._clocked: dict[tuple[str, ...], list[tuple[str, str, str]]] = {}
        self._unused_inputs: list[str] = []
        self._live = live_bits(netlist)

    def text(self) -> str:
        ports = self._ports()
        driven = [(cell, self._drive(cell)) for cell in self._netlist.cells]
        for cell, targets in driven:
            self._cell(cell, targets)
        self._outputs()
        self._registers()
        if self._unused_inputs:
            self._body.append(f"wire unused_inputs = &{{1'b0, {', '.join(self._unused_inputs)}}};")
        lines = [f"module {self._name} (", ",\n".join(f"{_INDENT}{port}" for port in ports), ");"]
        lines += [f"{_INDENT}{line}" for line in (*self._declarations, *self._body)]
        if self._initial:
            lines += [f"{_INDENT}initial begin", *(f"{_INDENT * 2}{line}" for line in self._initial), f"{_INDENT}end"]
        return "\n".join([*lines, "endmodule", "", ""])

    def _ports(self) -> list[str]:
        """Declare the ports; inputs get their places."""
        texts = []
        for port in self._netlist.ports:
            if not port.bits:
                continue
            if self._names.fresh(port.name) != port.name:
                raise ValueError(f"Port must have a name that is legal in Verilog, not {port.name!r}")
            texts.append(f"{'input' if port.is_input else 'output'} wire {_range(len(port.bits))}{port.name}")
            if port.is_input:
                self._names.place(port.name, port.bits)
                idle = [bit for bit in port.bits if bit not in self._live]
                if idle:
                    self._unused_inputs.append(self._names.expression(idle))
        return texts

    def _outputs(self) -> None:
        for port in self._netlist.ports:
            if not port.is_input and port.bits:
                self._body.append(f"assign {port.name} = {self._names.expression(port.bits)};")

    def _drive(self, cell: Cell) -> dict[str, list[tuple[int, int, str]]]:
        """Declare what a cell drives: for each pin, the live ranges of its bits and their signals."""
        is_register = cell.type in REGISTERS
        targets: dict[str, list[tuple[int, int, str]]] = {}
        for pin, bits in cell.outputs.items():
            targets[pin] = []
            for first, last in runs(bits, self._live):
                part = bits[first : last + 1]
                name = self._names.declare(part)
                kind = "reg" if is_register else "wire"
                self._declarations.append(f"{kind} {_range(len(part))}{name};")
                targets[pin].append((first, last, name))
        return targets

    def _cell(self, cell: Cell, targets: dict[str, list[tuple[int, int, str]]]) -> None:
        if cell.type in REGISTERS:
            self._flip_flop(cell, targets["Q"])
        elif cell.type == "$mem_v2":
            declarations, body = memory_text(cell, targets["RD_DATA"], self._names)
            self._declarations += declarations
            self._body += body
        elif not cell.type.startswith("$"):
            self._instance(cell, targets)
        elif targets["Y"]:
            for first, last, right in combinational(cell, [t[:2] for t in targets["Y"]], self._names.expression):
                self._body.append(f"assign {self._left(targets['Y'], first, last)} = {right};")

    def _left(self, targets: Sequence[tuple[int, int, str]], first: int, last: int) -> str:
        """Left side for the bits ``first`` to ``last`` of a pin, in which nobody may use some."""
        parts, position = [], first
        for low, high, name in targets:
            if low < first or high > last:
                continue
            if low > position:
                parts.append(self._nobody(low - position))
            parts.append(name)
            position = high + 1
        if position <= last:
            parts.append(self._nobody(last - position + 1))
        return parts[0] if len(parts) == 1 else f"{{{', '.join(reversed(parts))}}}"

    def _nobody(self, width: int) -> str:
        name = self._names.fresh("unused")
        self._declarations.append(f"wire {_range(width)}{name};")
        return name

    def _instance(self, cell: Cell, targets: dict[str, list[tuple[int, int, str]]]) -> None:
        pins = [f".{pin}({self._names.expression(bits)})" for pin, bits in cell.inputs.items()]
        pins += [f".{pin}({self._left(targets[pin], 0, len(bits) - 1)})" for pin, bits in cell.outputs.items()]
        self._body.append(f"{cell.type} {self._names.fresh(cell.name)} ({', '.join(pins)});")

    def _flip_flop(self, cell: Cell, targets: Sequence[tuple[int, int, str]]) -> None:
        def level(pin: str, polarity: str) -> str:
            if pin not in cell.inputs:
                return ""
            text = self._names.expression(cell.inputs[pin])
            return text if cell.number(polarity) else f"!{text}"

        assert cell.number("CLK_POLARITY") == 1, f"{cell.name} must use the rising edge"
        clock = self._names.expression(cell.inputs["CLK"])
        reset, enable = level("SRST", "SRST_POLARITY"), level("EN", "EN_POLARITY")
        group = self._clocked.setdefault((cell.type, clock, reset, enable), [])
        for first, last, name in targets:
            value = cell.inputs["D"][first : last + 1]
            to = list(reversed(cell.parameters.get("SRST_VALUE", "")))[first : last + 1]
            group.append((name, self._names.expression(value), self._names.expression(to) if to else ""))
            held = cell.outputs["Q"][first : last + 1]
            start = [self._netlist.initial.get(bit, "x") if isinstance(bit, int) else "x" for bit in held]
            if set(start) != {"x"}:
                self._initial.append(f"{name} = {self._names.expression(start)};")

    def _registers(self) -> None:
        """One block for all registers of the same clock, reset and enable."""
        for (kind, clock, reset, enable), registers in self._clocked.items():
            load = [f"{name} <= {value};" for name, value, _ in registers]
            clear = [f"{name} <= {value};" for name, _, value in registers]
            inner = [f"if ({enable}) begin", *_indented(load), "end"] if enable else load
            if kind == "$sdffce":
                inner = [f"if ({enable}) begin", *_indented(_choice(reset, clear, load)), "end"]
            elif reset:
                inner = _choice(reset, clear, inner)
            self._body += [f"always @(posedge {clock}) begin", *_indented(inner), "end"]


def _choice(condition: str, yes: Sequence[str], no: Sequence[str]) -> list[str]:
    return [f"if ({condition}) begin", *_indented(yes), "end else begin", *_indented(no), "end"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"{_INDENT}{line}" for line in lines]


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""
