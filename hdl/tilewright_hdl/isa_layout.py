# SPDX-License-Identifier: Apache-2.0
"""Amaranth layout of the instructions, derived from their declaration."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from amaranth.hdl import Const, Shape, ShapeLike, ValueLike, signed, unsigned
from amaranth.lib import data

from .config import AcceleratorConfig
from .isa import WORD_BITS, FieldSpec, Instruction, field_specs
from .isa_limits import field_bits

__all__ = ["FieldsLayout", "FieldsView", "encoded_layout", "instruction_layout"]


def _shape(spec: FieldSpec, bits: int) -> Shape:
    return signed(bits) if spec.signed else unsigned(bits)


class FieldsLayout(data.StructLayout):
    """Fields of an instruction, some of which can have only one value: they take no bits, and a view gives a constant.

    So it is written as a structure with all of them, ``members`` are those that have bits, and what assigns fields one
    by one goes through ``members``.

    Parameters
    ----------
    members : mapping of str to ShapeLike
        Fields with bits.
    fixed : mapping of str to Const
        Fields without, as wide as in the encoding.
    """

    def __init__(self, members: Mapping[str, ShapeLike], fixed: Mapping[str, Const]):
        super().__init__(members)
        self._fixed = dict(fixed)

    @property
    def fixed(self) -> dict[str, Const]:
        """Constant of each field that has no bits."""
        return dict(self._fixed)

    def only(self, names: Iterable[str], **more: ShapeLike) -> "FieldsLayout":
        """Layout of these fields, with or without bits, and of ``more`` members behind them."""
        wanted = list(names)
        return FieldsLayout(
            {name: self.members[name] for name in wanted if name not in self._fixed} | more,
            {name: self._fixed[name] for name in wanted if name in self._fixed},
        )

    def width(self, name: str) -> int:
        """Bits of a field: 0 if it has only one value."""
        return 0 if name in self._fixed else Shape.cast(self.members[name]).width

    def __call__(self, target: ValueLike) -> "FieldsView":
        return FieldsView(self, target)

    def const(self, init: Any) -> Any:
        """Constant from values by name; of a field without bits only the one value that it has.

        Raises
        ------
        ValueError
            If it is another one.
        """
        if isinstance(init, Mapping):
            for name, constant in self._fixed.items():
                if init.get(name, constant.value) != constant.value:
                    raise ValueError(f"{name} must be {constant.value} here, not {init[name]!r}: it has no bits")
            init = {name: value for name, value in init.items() if name not in self._fixed}
        return super().const(init)


class FieldsView(data.View):
    """View of a :class:`FieldsLayout`."""

    def __getitem__(self, key: Any) -> Any:
        fixed = self.shape().fixed
        return fixed[key] if key in fixed else super().__getitem__(key)


@cache
def encoded_layout(cls: type[Instruction]) -> data.FlexibleLayout:
    """Layout of the encoded bytes of an instruction, first byte lowest."""
    return data.FlexibleLayout(
        cls.BYTES * 8,
        {s.name: data.Field(_shape(s, s.bits), s.word * WORD_BITS + s.offset) for s in field_specs(cls)},
    )


@cache
def instruction_layout(config: AcceleratorConfig, cls: type[Instruction]) -> FieldsLayout:
    """Layout of the decoded fields of an instruction, each as wide as :func:`~.isa_limits.field_bits` says.

    A field of 0 bits has no register anywhere: views give its default, as a constant.
    """
    members, fixed = {}, {}
    for spec in field_specs(cls):
        bits = field_bits(config, spec)
        if bits:
            members[spec.name] = _shape(spec, bits)
        else:
            assert spec.default is not None, f"{cls.MNEMONIC}.{spec.name} must have a default"
            fixed[spec.name] = Const(spec.default, _shape(spec, spec.bits))
    return FieldsLayout(members, fixed)
