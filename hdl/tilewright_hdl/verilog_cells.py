# SPDX-License-Identifier: Apache-2.0
"""Verilog expressions of combinational cells."""

from collections.abc import Callable, Iterator, Sequence

from .liveness import PER_BIT
from .netlist import Bit, Cell
from .verilog_names import extend

__all__ = ["combinational"]

Expression = Callable[[Sequence[Bit]], str]

_BITWISE = {"$and": "&", "$or": "|", "$xor": "^"}
_ARITHMETIC = {"$add": "+", "$sub": "-", "$mul": "*"}
_COMPARISONS = {"$eq": "==", "$ne": "!=", "$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_REDUCTIONS = {"$reduce_and": "&", "$reduce_or": "|", "$reduce_bool": "|", "$reduce_xor": "^", "$reduce_xnor": "~^",
               "$logic_not": "~|"}
_SHIFTS = {"$shl": "<<", "$sshl": "<<", "$shr": ">>", "$sshr": ">>", "$shift": ">>", "$shiftx": ">>"}


def combinational(
    cell: Cell, used: Sequence[tuple[int, int]], text: Expression
) -> Iterator[tuple[int, int, str]]:
    """Ranges of the cell's result, and the expression of each, as wide as the range.

    Parameters
    ----------
    cell : Cell
        An operator with its result on pin ``Y``.
    used : sequence of (first, last)
        Ranges of the result that are used. Each lies within one of the ranges that are returned.
    text : callable
        Expression of bits.
    """
    kind = cell.type
    if kind in PER_BIT:
        for first, last in used:
            yield first, last, _slice(cell, first, last, text)
        return
    width = used[-1][1] + 1
    if kind in _ARITHMETIC or kind == "$neg":
        yield 0, width - 1, _arithmetic(cell, width, text)
    elif kind in _COMPARISONS:
        yield 0, 0, _comparison(cell, text)
    elif kind in _REDUCTIONS:
        a = cell.inputs["A"]
        single = {"$logic_not": "~"}.get(kind, "")
        yield 0, 0, f"{single if len(a) == 1 else _REDUCTIONS[kind]}{text(a)}"
    elif kind in ("$logic_and", "$logic_or"):
        sides = [f"(|{text(cell.inputs[pin])})" for pin in "AB"]
        yield 0, 0, f" {'&' if kind == '$logic_and' else '|'} ".join(sides)
    elif kind in _SHIFTS:
        width = max(width, len(cell.inputs["A"])) if _SHIFTS[kind] == ">>" else width
        yield 0, width - 1, _shift(cell, width, text)
    else:
        raise NotImplementedError(f"cell {cell.name} of type {kind} has no Verilog; add it to {__name__}")


def _signed(cell: Cell, pin: str) -> bool:
    return cell.number(f"{pin}_SIGNED") == 1


def _slice(cell: Cell, first: int, last: int, text: Expression) -> str:
    cut = slice(first, last + 1)
    a = cell.inputs["A"]
    if cell.type == "$mux":
        select = text(cell.inputs["S"])
        return f"{select} ? {text(cell.inputs['B'][cut])} : {text(a[cut])}"
    if cell.type == "$pmux":
        cases = ""
        for position, chosen in enumerate(cell.inputs["S"]):
            start = position * len(a)
            cases += f"{text([chosen])} ? {text(cell.inputs['B'][start + first : start + last + 1])} : "
        return cases + text(a[cut])
    a_text = text(extend(a, last + 1, _signed(cell, "A"))[cut])
    if cell.type in _BITWISE:
        return f"{a_text} {_BITWISE[cell.type]} {text(extend(cell.inputs['B'], last + 1, _signed(cell, 'B'))[cut])}"
    return f"~{a_text}" if cell.type == "$not" else a_text


def _arithmetic(cell: Cell, width: int, text: Expression) -> str:
    a = text(extend(cell.inputs["A"], width, _signed(cell, "A")))
    if cell.type == "$neg":
        return f"-{a}"
    b = text(extend(cell.inputs["B"], width, _signed(cell, "B")))
    if cell.type == "$mul" and _signed(cell, "A") and _signed(cell, "B"):
        # Synthesis drops the copies of a sign only where it knows that it is one.
        return f"$signed({a}) * $signed({b})"
    return f"{a} {_ARITHMETIC[cell.type]} {b}"


def _comparison(cell: Cell, text: Expression) -> str:
    width = max(len(cell.inputs["A"]), len(cell.inputs["B"]))
    signed = _signed(cell, "A") and _signed(cell, "B")
    a, b = (text(extend(cell.inputs[pin], width, signed)) for pin in "AB")
    if signed and cell.type not in ("$eq", "$ne"):
        a, b = f"$signed({a})", f"$signed({b})"
    return f"{a} {_COMPARISONS[cell.type]} {b}"


def _shift(cell: Cell, width: int, text: Expression) -> str:
    if cell.type in ("$shift", "$shiftx") and _signed(cell, "B"):
        raise NotImplementedError(f"cell {cell.name} must shift by an unsigned number")
    signed = _signed(cell, "A")
    a, b = text(extend(cell.inputs["A"], width, signed)), text(cell.inputs["B"])
    if cell.type == "$sshr" and signed:
        return f"$signed({a}) >>> {b}"
    return f"{a} {_SHIFTS[cell.type]} {b}"
