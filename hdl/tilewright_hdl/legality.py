# SPDX-License-Identifier: Apache-2.0
"""Which instructions an accelerator accepts: rules that software and hardware evaluate alike.

A rule is written once, with comparisons, ``+``, ``&`` and ``|`` only. Given an :class:`~.isa.Instruction` it gives a
bool; given the decoder's view of the fields it gives the logic that refuses the instruction. An instruction that
breaks a rule stops the hardware with ``ErrorCode.FIELD``. Nothing here imports Amaranth.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any

from .config import AcceleratorConfig
from .isa import BINARY, INSTRUCTIONS, Combine, Exec, Instruction, Load, Memory, Post, RoundingCode, Store, field_specs
from .isa_limits import field_bits, reason

__all__ = ["Rule", "broken_rules", "rules"]

_CHECKED_BY_FETCH = ("opcode", "index")


@dataclass(frozen=True)
class Rule:
    """One condition that an instruction must meet.

    Members
    -------
    text : str
        What must hold.
    broken : callable
        Maps the fields of an instruction to whether it does not hold.
    pins : tuple of (str, int, int), or None
        Where the rule says no more than that some bits of a field, a mask, must have a value: field, mask, value.
    """

    text: str
    broken: Callable[[Any], Any]
    pins: tuple[str, int, int] | None = None


def rules(config: AcceleratorConfig, cls: type[Instruction]) -> tuple[Rule, ...]:
    """All rules for an instruction on an accelerator."""
    return _rules(config, cls.OPCODE)


@cache
def _rules(config: AcceleratorConfig, opcode: int) -> tuple[Rule, ...]:
    (cls,) = (c for c in INSTRUCTIONS if opcode == c.OPCODE)
    found = [*_ranges(config, cls), *_widths(config, cls), *_engine_bits(cls)]
    if cls in (Load, Store):
        found += _transfer(config, cls)
    if cls is Exec:
        found += _exec(config)
    if cls is Post:
        found += _post(config)
    return tuple(found)


def broken_rules(config: AcceleratorConfig, instruction: Instruction) -> list[str]:
    """Text of each rule that ``instruction`` breaks; none means that the hardware accepts it."""
    return [rule.text for rule in rules(config, type(instruction)) if rule.broken(instruction)]


def _test(name: str, broken: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Test of one field's value as a test of the whole instruction."""
    return lambda fields: broken(getattr(fields, name))


def _pinned(text: str, name: str, mask: int, value: int = 0) -> Rule:
    """Rule that the bits of a field under a mask must have a value."""
    return Rule(text, lambda fields: (getattr(fields, name) & mask) != value, (name, mask, value))


def _ranges(config: AcceleratorConfig, cls: type[Instruction]) -> list[Rule]:
    """Fields whose legal values are fewer than their bits can say."""
    found = []
    for spec in field_specs(cls):
        if spec.name in _CHECKED_BY_FETCH or not field_bits(config, spec):
            continue
        least = -(1 << (spec.bits - 1)) if spec.signed else 0
        most = (1 << (spec.bits - spec.signed)) - 1
        text = f"{spec.name} must be {spec.low} to {spec.high}"
        if spec.low > least:
            found.append(Rule(text, _test(spec.name, _below(spec.low))))
        if spec.high < most:
            found.append(Rule(text, _test(spec.name, _above(spec.high, most))))
    return found


def _beyond_sign(bits: int, value: Any) -> Any:
    return ((value >> bits) != 0) & ((value >> bits) != -1)


def _below(low: int) -> Callable[[Any], Any]:
    """Test for unsigned values below ``low``; of a power of two it takes no adder."""
    if low & (low - 1):
        return partial(operator.gt, low)
    return lambda value: (value >> low.bit_length() - 1) == 0


def _above(high: int, most: int) -> Callable[[Any], Any]:
    """Test for unsigned values above ``high``, of values up to ``most``, which is all ones."""
    low_bits = (most - high).bit_length() - 1
    if most - high == 1 << low_bits:
        return lambda value: (value >> low_bits) == most >> low_bits
    return partial(operator.lt, high)


def _widths(config: AcceleratorConfig, cls: type[Instruction]) -> list[Rule]:
    """Fields that have fewer bits here than in the encoding."""
    found = []
    for spec in field_specs(cls):
        bits = field_bits(config, spec)
        if spec.name in _CHECKED_BY_FETCH or bits == spec.bits:
            continue
        why = reason(config, spec)
        if not bits:
            assert spec.default is not None
            mask = (1 << spec.bits) - 1
            found.append(_pinned(f"{spec.name} must be {spec.default}: {why}", spec.name, mask, spec.default & mask))
        elif spec.signed:
            text = f"{spec.name} must be {-(1 << bits - 1)} to {(1 << bits - 1) - 1}: {why}"
            found.append(Rule(text, _test(spec.name, partial(_beyond_sign, bits - 1))))
        else:
            text = f"{spec.name} must have at most {bits} bits: {why}"
            found.append(_pinned(text, spec.name, (1 << spec.bits) - (1 << bits)))
    return found


def _engine_bits(cls: type[Instruction]) -> list[Rule]:
    return [_pinned(f"{name} must not name the instruction's own engine", name, 1 << cls.ENGINE)
            for name in ("wait", "signal")]


def _transfer(config: AcceleratorConfig, cls: type[Instruction]) -> list[Rule]:
    beat = config.bus.data_bytes
    found = [_pinned(f"{name} must be a multiple of {beat} bytes", name, beat - 1)
             for name in ("dram_address", "dram_stride")]
    if cls is Store:
        found.append(Rule("memory must be ACTIVATION", lambda f: f.memory != Memory.ACTIVATION))
    elif config.post.tables == 0:
        found.append(Rule("memory must not be TABLE: post.tables is 0", lambda f: f.memory == Memory.TABLE))
    if cls is Load:
        found += _window(config)
    return found


def _exec(config: AcceleratorConfig) -> list[Rule]:
    if not config.array.depthwise:
        return []
    rows = config.array.rows
    return [
        Rule(f"kernel_width must be at most {rows} with depthwise",
             lambda f: (f.depthwise == 1) & (f.kernel_width > rows)),
        Rule("channel_tiles and dilation_x must be 1 with depthwise",
             lambda f: (f.depthwise == 1) & ((f.channel_tiles != 1) | (f.dilation_x != 1))),
        Rule("overlap must be less than kernel_width with depthwise",
             lambda f: (f.depthwise == 1) & (f.overlap >= f.kernel_width)),
    ]


def _window(config: AcceleratorConfig) -> list[Rule]:
    if not config.bus.windows:
        return []
    rows = config.array.rows
    return [
        Rule("memory must be ACTIVATION where window is 1",
             lambda f: (f.window == 1) & (f.memory != Memory.ACTIVATION)),
        Rule(f"first_lane + lanes must be at most {rows} where window is 1",
             lambda f: (f.window == 1) & (f.first_lane + f.lanes > rows)),
    ]


def _post(config: AcceleratorConfig) -> list[Rule]:
    post = config.post
    found = [Rule("low must not be above high", lambda f: f.low > f.high)]
    if post.pools:
        found.append(Rule(
            "window_height and window_width must be 1 with combine NONE, ADD, SUBTRACT or MULTIPLY",
            lambda f: reduce(operator.or_, (f.combine == combine for combine in (Combine.NONE, *BINARY)))
            & ((f.window_height != 1) | (f.window_width != 1)),
        ))
    if post.pools or post.binary:
        found.append(Rule("low_out must not be above high_out", lambda f: f.low_out > f.high_out))
        found += _combines(config)
    if post.tables:
        found.append(Rule(f"table_index must be below {post.tables} where use_table is 1",
                          lambda f: (f.use_table == 1) & (f.table_index >= post.tables)))
    for code in set(RoundingCode) - {RoundingCode[rounding.name] for rounding in post.roundings}:
        text = f"rounding must not be {code.name}: it is not in post.roundings"
        found.append(Rule(text, _test("rounding", partial(operator.eq, int(code)))))
    return found


def _combines(config: AcceleratorConfig) -> list[Rule]:
    """Operations that the post-processor lacks."""
    settings = {"add": (Combine.ADD, Combine.SUBTRACT), "multiply": (Combine.MULTIPLY,),
                "pools": (Combine.MAX, Combine.AVERAGE)}
    return [
        Rule(f"combine must not be {combine.name}: post.{setting} is false",
             _test("combine", partial(operator.eq, int(combine))))
        for setting, combines in settings.items() if not getattr(config.post, setting) for combine in combines
    ]
