# SPDX-License-Identifier: Apache-2.0
"""Random instructions for tests, legal or not."""

import random
from typing import Any

from hypothesis import strategies as st

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import BINARY, Combine, Exec, FieldSpec, Instruction, Load, Memory, Post, Store, field_specs
from tilewright_hdl.isa_limits import field_bits, field_range
from tilewright_hdl.legality import broken_rules


def values(cls: type[Instruction]) -> st.SearchStrategy[dict[str, int]]:
    """Fields that the instruction set allows, except for what ties fields together."""
    return st.fixed_dictionaries({
        spec.name: st.integers(spec.low, spec.high) | st.sampled_from([spec.low, spec.high])
        for spec in field_specs(cls) if spec.name != "opcode"
    }).map(lambda fields: tied(cls, fields))


def tied(cls: type[Instruction], fields: dict[str, int]) -> dict[str, int]:
    """Mend the fields that depend on each other."""
    own = ~(1 << cls.ENGINE)
    fields = fields | {"wait": fields["wait"] & own, "signal": fields["signal"] & own}
    if cls is Store:
        fields["memory"] = 0
    if cls is Load and fields["window"]:
        fields |= {"memory": Memory.ACTIVATION}
    if cls is Post and fields["combine"] in (Combine.NONE, *BINARY):
        fields |= {"window_height": 1, "window_width": 1}
    if cls is Exec and fields["depthwise"]:
        fields |= {"channel_tiles": 1, "dilation_x": 1, "overlap": fields["overlap"] % fields["kernel_width"]}
    return fields


def useful(config: AcceleratorConfig, cls: type[Instruction], fields: dict[str, Any]) -> dict[str, Any]:
    """Fields without those that a configuration has no use for: these must hold their defaults."""
    return {spec.name: fields[spec.name] for spec in field_specs(cls)
            if spec.name in fields and field_bits(config, spec)}


def random_legal(config: AcceleratorConfig, cls: type[Instruction], chance: random.Random) -> Instruction:
    """An instruction that a configuration accepts."""
    while True:
        fields = tied(cls, {spec.name: chance.randint(*field_range(config, spec)) for spec in field_specs(cls)})
        if issubclass(cls, Load) and fields["window"]:
            fields["first_lane"] %= config.array.rows
            fields["lanes"] = 1 + fields["lanes"] % (config.array.rows - fields["first_lane"])
        for name in ("dram_address", "dram_stride"):
            if name in fields:
                fields[name] -= fields[name] % config.bus.data_bytes
        instruction = cls(**fields)
        if not broken_rules(config, instruction):
            return instruction


def raw(instruction: Instruction, **fields: int) -> Instruction:
    """An instruction with other fields, whose values nobody has checked."""
    copy = object.__new__(type(instruction))
    for spec in field_specs(type(instruction)):
        object.__setattr__(copy, spec.name, fields.get(spec.name, getattr(instruction, spec.name)))
    return copy


def encode_raw(instruction: Instruction, fields: dict[str, int]) -> bytes:
    """Encoding of such an instruction."""
    return raw(instruction, **fields).encode()


def representable(spec: FieldSpec) -> tuple[int, int]:
    """Least and largest value that the bits of a field can say."""
    return (-(1 << (spec.bits - 1)), (1 << (spec.bits - 1)) - 1) if spec.signed else (0, (1 << spec.bits) - 1)


def plain(instruction: Instruction) -> dict[str, Any]:
    """Fields by name, as integers."""
    return {spec.name: int(getattr(instruction, spec.name)) for spec in field_specs(type(instruction))}
