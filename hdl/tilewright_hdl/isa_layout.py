# SPDX-License-Identifier: Apache-2.0
"""Amaranth layout of the instructions, derived from their declaration."""

from functools import cache

from amaranth import signed, unsigned
from amaranth.lib import data

from .isa import WORD_BITS, Instruction, field_specs

__all__ = ["encoded_layout", "instruction_layout"]


@cache
def encoded_layout(cls: type[Instruction]) -> data.FlexibleLayout:
    """Layout of the encoded bytes of an instruction, first byte lowest."""
    return data.FlexibleLayout(
        cls.BYTES * 8,
        {
            s.name: data.Field(signed(s.bits) if s.signed else unsigned(s.bits), s.word * WORD_BITS + s.offset)
            for s in field_specs(cls)
        },
    )


@cache
def instruction_layout(cls: type[Instruction]) -> data.StructLayout:
    """Layout of the decoded fields of an instruction, without the gaps of the encoding."""
    return data.StructLayout({s.name: signed(s.bits) if s.signed else unsigned(s.bits) for s in field_specs(cls)})
