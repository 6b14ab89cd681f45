# SPDX-License-Identifier: Apache-2.0
"""Integer multipliers that equal another framework's arithmetic for every accumulator.

A rescale is a staircase: it never falls as the accumulator grows, and has at most 255 steps within int8. So it is known
by the accumulators at which it steps, and two rescales are equal if one does at the steps of the other what that does.
That decides equality for all 2**32 accumulators with two evaluations a step.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import (
    INT8_MAX,
    INT8_MIN,
    MULTIPLIER_BITS,
    ONE_RULE_SHIFT,
    Requantizer,
    Rounding,
    quantize_multiplier,
    rescale,
    round_half_away,
)

__all__ = ["fit_average", "fit_half_away"]

Int64 = npt.NDArray[np.int64]

_LOW, _HIGH = -(1 << 31), (1 << 31) - 1
_FAR = 1 << 40
"""Beyond any accumulator."""

_NUDGES = (0, 1, -1, 2, -2)
"""Added to the nearest multiplier, in order of preference. One that is a little too large sends ties away from zero."""


def fit_half_away(
    factor: npt.NDArray[np.float64],
    *,
    zero_point: int,
    low: int,
    high: int,
    roundings: Iterable[Rounding],
    bits: int = MULTIPLIER_BITS,
) -> Requantizer | None:
    """Requantizer of the hardware that equals ``FLOAT64_HALF_AWAY`` for every int32 accumulator.

    Parameters
    ----------
    factor : float64 array of shape (channels,)
    zero_point, low, high : int
    roundings : iterable of Rounding
        Rules that the hardware has, in order of preference.
    bits : int
        Width of its multipliers.

    Returns
    -------
    Requantizer or None
        ``None`` if no multiplier of some channel does.
    """
    levels = _levels(zero_point, low, high)
    steps = _half_away_steps(factor, levels)
    if steps is None:
        return None
    pairs = [quantize_multiplier(real, bits) for real in factor.tolist()]
    return _fit(steps, levels, np.array(pairs, np.int64).reshape(-1, 2), roundings, bits, zero_point, low, high)


def fit_average(
    divisor: int, *, low: int, high: int, rounding: Rounding, roundings: Iterable[Rounding], bits: int = MULTIPLIER_BITS
) -> Requantizer | None:
    """Requantizer of one channel that equals ``sum / divisor`` for every int32 sum; else ``None``.

    ``rounding`` is ``SINGLE`` (halves of the quotient go up) or ``FLOAT64_HALF_AWAY``. The shift is 31 or less, where
    all rules of the hardware are the same.
    """
    levels = _levels(0, low, high)
    double = divisor * (2 * levels - 1)
    up = -(-double // 2)
    steps = up if rounding is Rounding.SINGLE else np.where(levels > 0, up, double // 2 + 1)
    shift = min(bits, ONE_RULE_SHIFT) - (divisor == 1)
    base = np.array([[round((1 << shift) / divisor), shift]], np.int64)
    return _fit(steps[None], levels, base, roundings, bits, 0, low, high)


def _levels(zero_point: int, low: int, high: int) -> Int64:
    """Results, before the zero point, that are reached by a step."""
    return np.arange(max(low, INT8_MIN) + 1, min(high, INT8_MAX) + 1, dtype=np.int64) - zero_point


def _half_away_steps(factor: npt.NDArray[np.float64], levels: Int64) -> Int64 | None:
    """Smallest accumulator that reaches each level, shape (channels, levels)."""
    with np.errstate(over="ignore", divide="ignore"):
        guess = np.ceil((levels - 0.5) / factor[:, None])
    near: npt.NDArray[np.float64] = np.clip(guess, -_FAR, _FAR)[..., None] + np.arange(-2.0, 3.0)
    reached = round_half_away(near * factor[:, None, None]) >= levels[:, None]
    if not (reached[..., -1].all() and not reached[..., 0].any()):
        return _far_steps(near, reached)
    return np.take_along_axis(near, reached.argmax(-1)[..., None], -1)[..., 0].astype(np.int64)


def _far_steps(near: npt.NDArray[np.float64], reached: npt.NDArray[np.bool_]) -> Int64 | None:
    """Steps some of which lie beyond all accumulators, where their exact place is of no interest."""
    far = np.abs(near).min(-1) > _HIGH + 1
    if not (far | (reached[..., -1] & ~reached[..., 0])).all():
        return None
    found = np.take_along_axis(near, reached.argmax(-1)[..., None], -1)[..., 0]
    return np.where(far, near[..., 2], found).astype(np.int64)


def _fit(
    steps: Int64, levels: Int64, base: Int64, roundings: Iterable[Rounding], bits: int, zero_point: int, low: int,
    high: int,
) -> Requantizer | None:
    for rounding in roundings:
        multiplier = np.full(len(base), -1, np.int64)
        for nudge in _NUDGES:
            trial = np.clip(base[:, 0] + nudge, 0, (1 << bits) - 1)
            good = _equal(steps, levels, trial, base[:, 1], rounding)
            multiplier = np.where((multiplier < 0) & good, trial, multiplier)
        if (multiplier >= 0).all():
            return Requantizer(multiplier=multiplier, shift=base[:, 1].copy(), zero_point=zero_point, low=low,
                               high=high, rounding=rounding)
    return None


def _equal(
    steps: Int64, levels: Int64, multiplier: Int64, shift: Int64, rounding: Rounding
) -> npt.NDArray[np.bool_]:
    """For each channel, whether the rescale reaches each level exactly at its step."""
    at, before = (
        rescale(np.clip(steps + offset, _LOW, _HIGH), multiplier[:, None], shift[:, None], rounding)
        for offset in (0, -1)
    )
    reaches = (at >= levels) | (steps > _HIGH)
    waits = (before < levels) | (steps <= _LOW)
    return np.asarray((reaches & waits).all(-1))
