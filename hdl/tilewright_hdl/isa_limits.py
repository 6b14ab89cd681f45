# SPDX-License-Identifier: Apache-2.0
"""How wide the fields of instructions are in an accelerator: no wider than what its configuration has a use for.

Nothing here imports Amaranth.
"""

from functools import cache
from operator import attrgetter

from .config import AcceleratorConfig
from .instruction import Extent, FieldSpec, Instruction, field_specs

__all__ = ["field_bits", "field_range", "field_ranges", "reason"]

_SETTINGS = {
    Extent.ADDRESS: "limits.address_bits",
    Extent.SIZE: "limits.size_bits",
    Extent.KERNEL: "limits.kernel_bits",
    Extent.MAIN: "bus.address_bits",
    Extent.MULTIPLIER: "post.multiplier_bits",
}


def field_bits(config: AcceleratorConfig, spec: FieldSpec) -> int:
    """Width of a field in the hardware of a configuration, at most ``spec.bits``.

    0 where the configuration has no use for it: then it must hold its default. The kind of an instruction has no bits
    either, as each engine has only one. A value that does not fit is refused, see :mod:`~.legality`.
    """
    if spec.name == "opcode" or (spec.needs and not any(attrgetter(need)(config) for need in spec.needs)):
        return 0
    if spec.extent is None:
        return spec.bits
    return min(spec.bits, int(attrgetter(_SETTINGS[spec.extent])(config)))


def field_range(config: AcceleratorConfig, spec: FieldSpec) -> tuple[int, int]:
    """Least and largest value of a field that a configuration takes, if no other field forbids it."""
    bits = field_bits(config, spec)
    if not bits:
        assert spec.default is not None, f"{spec.name} must have a default"
        return spec.default, spec.default
    least = -(1 << (bits - 1)) if spec.signed else 0
    return max(least, spec.low), min((1 << (bits - spec.signed)) - 1, spec.high)


@cache
def field_ranges(config: AcceleratorConfig, cls: type[Instruction]) -> dict[str, tuple[int, int]]:
    """:func:`field_range` of each field of an instruction, by name."""
    return {spec.name: field_range(config, spec) for spec in field_specs(cls)}


def reason(config: AcceleratorConfig, spec: FieldSpec) -> str:
    """What in the configuration makes a field narrow, in words, as ``"post.add is false"``."""
    if field_bits(config, spec) and spec.extent is not None:
        paths: tuple[str, ...] = (_SETTINGS[spec.extent],)
    else:
        paths = spec.needs
    return " and ".join(f"{path} is {str(attrgetter(path)(config)).lower()}" for path in paths)
