# SPDX-License-Identifier: Apache-2.0
"""The instruction set as text: the disassembler and the page of the documentation."""

import dataclasses

from . import isa
from .isa import ENGINES, INSTRUCTIONS, Instruction, field_specs

__all__ = ["disassemble", "markdown"]


def _engines(mask: int) -> str:
    return "+".join(e.name.lower() for e in ENGINES if mask >> e & 1)


def disassemble(instruction: Instruction) -> str:
    """One line of text: index, mnemonic, what it waits for and signals, and the fields that are not the default."""
    parts = [f"{instruction.index:6d}  {instruction.MNEMONIC:5s}"]
    if instruction.wait:
        parts.append(f"wait={_engines(instruction.wait)}")
    if instruction.signal:
        parts.append(f"signal={_engines(instruction.signal)}")
    defaults = {f.name: f.default for f in dataclasses.fields(instruction)}
    for spec in field_specs(type(instruction)):
        value = getattr(instruction, spec.name)
        if spec.name in ("opcode", "wait", "signal", "index") or value == defaults[spec.name]:
            continue
        parts.append(f"{spec.name}={spec.choices(value).name.lower() if spec.choices else value}")
    return " ".join(parts)


def markdown() -> str:
    """The page ``docs/isa.md``."""
    lines = ["# Instruction set", "", "Generated from `hdl/tilewright_hdl/isa.py`; do not edit.", ""]
    assert isa.__doc__ is not None
    lines += [isa.__doc__.strip(), ""]
    for cls in INSTRUCTIONS:
        assert cls.__doc__ is not None
        doc = "\n".join(line.removeprefix("    ") for line in cls.__doc__.strip().splitlines())
        doc = doc.replace("::\n", "", 1) if "::\n" in doc else doc
        lines += [f"## `{cls.MNEMONIC}`", "", f"Opcode {cls.OPCODE}, {cls.BYTES} bytes, "
                  f"engine {cls.ENGINE.name}.", "", doc, ""]
        lines += ["| word | bits | field | values | meaning |", "|--:|--:|---|---|---|"]
        for s in field_specs(cls):
            values = ", ".join(f"{c.value} {c.name}" for c in s.choices) if s.choices else f"{s.low} to {s.high}"
            if s.name == "opcode":
                values = str(cls.OPCODE)
            lines.append(f"| {s.word} | {s.offset + s.bits - 1}:{s.offset} | `{s.name}` | {values} | {s.meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
