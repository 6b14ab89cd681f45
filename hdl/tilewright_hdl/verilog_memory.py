# SPDX-License-Identifier: Apache-2.0
"""Verilog of memories."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from .netlist import Bit, Cell
from .verilog_names import Names, extend

__all__ = ["memory_module", "memory_text"]

DONT_CARE = "(* no_rw_check *) "
"""Says to Yosys that nothing uses a read in the cycle of a write to the same word: queues do not offer such a word, the
profile and the accumulators do not take it, and programs do not race. Else it would add registers and a comparator to
each block RAM whose primitive does not promise the old word."""


def memory_module(name: str, words: int, word_bits: int, groups: int, apart: int = 1) -> str:
    """Verilog text of a memory with one read and one write port as the module ``name``.

    The word read appears after the clock edge with ``read_enable`` and stays until the next. Before the first one it is
    anything: a block RAM has no initial output, and Yosys would add a gate to each bit to make one. Each bit of
    ``write_mask`` stands for one of ``groups`` equal parts of a word; ``apart`` equal parts are arrays of their own.
    Words begin as zeros; a tool that synthesizes is not told so.
    """
    address = _range((words - 1).bit_length())
    word, mask = _range(word_bits), _range(groups)
    part_bits, part_groups = word_bits // apart, groups // apart
    names = ["words"] if apart == 1 else [f"words_{part}" for part in range(apart)]
    clears = " ".join(f"{array}[i] = {part_bits}'h0;" for array in names)
    lines = [
        f"module {name} (",
        "  input wire clk,",
        "  input wire read_enable,",
        f"  input wire {address}read_address,",
        f"  output reg {word}read_data,",
        f"  input wire {mask}write_mask,",
        f"  input wire {address}write_address,",
        f"  input wire {word}write_data",
        ");",
        *(f"  {DONT_CARE}reg {_range(part_bits)}{array} [0:{words - 1}];" for array in names),
        # nextpnr fills block RAM with zeros. Yosys writes such a loop out, in the square of its steps: of the 883 s
        # that a ULX3S-85F took, it was 590.
        "`ifndef SYNTHESIS",
        "  integer i;",
        f"  initial for (i = 0; i < {words}; i = i + 1) begin {clears} end",
        "`endif",
    ]
    for part, array in enumerate(names):
        first = part * part_bits
        data = "read_data" if apart == 1 else f"read_data{_select(first, first + part_bits - 1)}"
        lines += [
            f"  always @(posedge clk) if (read_enable) {data} <= {array}[read_address];",
            "  always @(posedge clk) begin",
        ]
        for group in range(part_groups):
            start, end = group * part_bits // part_groups, (group + 1) * part_bits // part_groups - 1
            place = "" if part_groups == 1 else _select(start, end)
            source = "" if groups == 1 else _select(first + start, first + end)
            enable = "write_mask" if groups == 1 else f"write_mask[{part * part_groups + group}]"
            lines.append(f"    if ({enable}) {array}[write_address]{place} <= write_data{source};")
        lines.append("  end")
    return "\n".join([*lines, "endmodule", "", ""])


def memory_text(
    cell: Cell, targets: Sequence[tuple[int, int, str]], names: Names
) -> tuple[list[str], list[str]]:
    """Declarations and body of a memory.

    Parameters
    ----------
    cell : Cell
        A ``$mem_v2``. Its words begin as its initial value, or as zeros. A read in the cycle of a write to the same
        word sees the old one, and nothing may be done with it; see ``DONT_CARE``. Its ``ram_style`` goes into the text.
    targets : sequence of (first, last, name)
        Wires for ranges of the pin ``RD_DATA``, on which the ports follow each other.
    names : Names
    """
    size, width, address_bits = cell.number("SIZE"), cell.number("WIDTH"), cell.number("ABITS")
    for parameter in ("RD_TRANSPARENCY_MASK", "RD_WIDE_CONTINUATION", "WR_WIDE_CONTINUATION", "OFFSET"):
        if "1" in cell.parameters[parameter]:
            raise NotImplementedError(f"memory {cell.name} must have zero {parameter}")
    memory = names.fresh(cell.name)
    style = f'(* ram_style = "{cell.ram_style}" *) ' if cell.ram_style else ""
    declarations = [f"{style}{DONT_CARE}reg {_range(width)}{memory} [0:{size - 1}];"]
    used_bits = max(1, (size - 1).bit_length())

    def address(pin: str, port: int) -> str:
        bits = cell.inputs[pin][port * address_bits : (port + 1) * address_bits]
        return f"{memory}[{names.expression(extend(bits, used_bits, False))}]"

    body = []
    digits = cell.parameters["INIT"].replace("x", "0")
    if "1" in digits:
        words = [digits[max(0, end - width) : end] for end in range(len(digits), 0, -width)]
        body += [f"initial {memory}[{i}] = {width}'h{int(word, 2):x};" for i, word in enumerate(words)]
    else:
        index = names.fresh("i")
        declarations.append(f"integer {index};")
        loop = f"for ({index} = 0; {index} < {size}; {index} = {index} + 1)"
        body.append(f"initial {loop} {memory}[{index}] = {width}'h0;")
    for port in range(cell.number("WR_PORTS")):
        clock = names.expression([cell.inputs["WR_CLK"][port]])
        # Of a bit that nobody reads, neither what is written nor whether it is needs to exist.
        enable, value = ([bit if isinstance(bit, str) or names.placed(bit) else "0"
                          for bit in cell.inputs[pin][port * width : (port + 1) * width]]
                         for pin in ("WR_EN", "WR_DATA"))
        body.append(f"always @(posedge {clock}) begin")
        for first, last in _equal(enable):
            select = "" if last - first + 1 == width else _select(first, last)
            write = f"{address('WR_ADDR', port)}{select} <= {names.expression(value[first : last + 1])};"
            body.append(f"  if ({names.expression([enable[first]])}) {write}")
        body.append("end")
    for first, last, name in targets:
        port, start = divmod(first, width)
        assert last // width == port, f"read data of two ports of {cell.name} must not share a signal"
        select = "" if last - first + 1 == width else _select(start, start + last - first)
        read = f"{address('RD_ADDR', port)}{select}"
        if not _flag(cell, "RD_CLK_ENABLE", port):
            body.append(f"assign {name} = {read};")
            continue
        register = names.fresh(f"{name}_register")
        declarations.append(f"reg {_range(last - first + 1)}{register};")
        clock, enable_text = (names.expression([cell.inputs[pin][port]]) for pin in ("RD_CLK", "RD_EN"))
        condition = "" if enable_text == "1'h1" else f"if ({enable_text}) "
        body += [f"always @(posedge {clock}) {condition}{register} <= {read};", f"assign {name} = {register};"]
    return declarations, body


def _flag(cell: Cell, parameter: str, port: int) -> bool:
    return cell.parameters[parameter][::-1][port] == "1"


def _equal(bits: Sequence[Bit]) -> Iterator[tuple[int, int]]:
    """Ranges (first, last) of equal neighbours."""
    for bit, group in groupby(range(len(bits)), key=lambda i: bits[i]):
        places = list(group)
        if bit != "0":
            yield places[0], places[-1]


def _select(first: int, last: int) -> str:
    return f"[{first}]" if first == last else f"[{last}:{first}]"


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""
