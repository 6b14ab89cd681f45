# SPDX-License-Identifier: Apache-2.0
"""Counters that cost one gate: shift registers with feedback, which go through all values but 0 in an order of
their own. They do for places in a memory and for counts that are only compared with numbers known before."""

from amaranth import Cat, Value

__all__ = ["FIRST", "stepped", "stepped_back", "steps"]

FIRST = 1
"""Where a counter begins."""

# Primitive polynomials: bits whose sum is shifted in.
_TAPS = {8: (7, 5, 4, 3), 9: (8, 4)}


def steps(bits: int, count: int) -> int:
    """Value ``count`` steps behind :data:`FIRST`."""
    value = FIRST
    for _ in range(count):
        fed = sum(value >> tap & 1 for tap in _TAPS[bits]) & 1
        value = (value << 1 | fed) & ((1 << bits) - 1)
    return value


def stepped(value: Value) -> Value:
    """The next value, of 8 or 9 bits."""
    return Cat(_sum(value, _TAPS[len(value)]), value[:-1])


def stepped_back(value: Value) -> Value:
    """Inverse of :func:`stepped`."""
    others = [tap + 1 for tap in _TAPS[len(value)] if tap < len(value) - 1]
    return Cat(value[1:], _sum(value, [0, *others]))


def _sum(value: Value, bits: tuple[int, ...] | list[int]) -> Value:
    return Cat(value[bit] for bit in bits).xor()
