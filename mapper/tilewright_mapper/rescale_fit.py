# SPDX-License-Identifier: Apache-2.0
"""Integer multipliers that equal another framework's arithmetic for every accumulator that a layer can have.

A rescale is a staircase: it never falls as the accumulator grows, and has at most 255 steps within int8. So it is known
by the accumulators at which it steps, and two rescales are equal if one does at the steps of the other what that does.
That decides equality for all accumulators with two evaluations a step.
"""

from collections.abc import Iterable
from typing import NamedTuple

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

INT32_MAX = (1 << 31) - 1
_FAR = 1 << 40
"""Beyond any accumulator."""

_NUDGES = (0, 1, -1, 2, -2)
"""Added to the nearest multiplier, in order of preference. One that is a little too large sends ties away from zero."""


def fit_half_away(
    factor: npt.NDArray[np.float64],
    *,
    bounds: Int64 | int = INT32_MAX,
    zero_point: int,
    low: int,
    high: int,
    roundings: Iterable[Rounding],
    bits: int = MULTIPLIER_BITS,
) -> Requantizer | None:
    """Requantizer of the hardware that equals ``FLOAT64_HALF_AWAY``.

    Parameters
    ----------
    factor : float64 array of shape (channels,)
    bounds : int64 array of shape (channels,), or int
        Largest absolute values of the accumulators.
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
    reach = np.broadcast_to(np.minimum(bounds, INT32_MAX), factor.shape)[:, None]
    base = np.array(pairs, np.int64).reshape(-1, 2)
    return _fit(_Steps(steps, levels, reach), base, roundings, bits, zero_point, low, high)


def fit_average(
    divisor: int, *, low: int, high: int, rounding: Rounding, roundings: Iterable[Rounding], bits: int = MULTIPLIER_BITS
) -> Requantizer | None:
    """Requantizer of one channel for a sum of int8 plus ``-zero_point * divisor`` that gives ``sum / divisor``.

    ``rounding`` is ``SINGLE`` (halves of the quotient go up) or ``FLOAT64_HALF_AWAY``, ``zero_point`` that of the
    requantizer. Halves go up everywhere if the quotient is made positive, which is what the lowest int8 as zero point
    does; no multiplier sends them up on both sides of zero. The shift is 31 or less where that will do, since all rules
    of the hardware are the same there. ``None`` if no multiplier of ``bits`` bits does.
    """
    zero_point = INT8_MIN if rounding is Rounding.SINGLE else 0
    levels = _levels(zero_point, low, high)
    double = divisor * (2 * levels - 1)
    steps = np.where(levels > 0, -(-double // 2), double // 2 + 1)
    _, most = quantize_multiplier(1 / divisor, bits)
    for shift in (min(most, ONE_RULE_SHIFT), most):
        base = np.array([[round((1 << shift) / divisor), shift]], np.int64)
        reach = np.array([[INT32_MAX]])
        found = _fit(_Steps(steps[None], levels, reach), base, roundings, bits, zero_point, low, high)
        if found is not None:
            return found
    return None


class _Steps(NamedTuple):
    """A staircase for each channel.

    Members
    -------
    at : int64 array of shape (channels, levels)
        Smallest accumulator that reaches each level.
    levels : int64 array of shape (levels,)
    reach : int64 array of shape (channels, 1)
        Largest absolute value of the accumulators.
    """

    at: Int64
    levels: Int64
    reach: Int64


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
    far = np.abs(near).min(-1) > INT32_MAX + 1
    if not (far | (reached[..., -1] & ~reached[..., 0])).all():
        return None
    found = np.take_along_axis(near, reached.argmax(-1)[..., None], -1)[..., 0]
    return np.where(far, near[..., 2], found).astype(np.int64)


def _fit(
    steps: _Steps, base: Int64, roundings: Iterable[Rounding], bits: int, zero_point: int, low: int, high: int
) -> Requantizer | None:
    for rounding in roundings:
        multiplier = np.full(len(base), -1, np.int64)
        for nudge in _NUDGES:
            trial = np.clip(base[:, 0] + nudge, 0, (1 << bits) - 1)
            good = _equal(steps, trial, base[:, 1], rounding)
            multiplier = np.where((multiplier < 0) & good, trial, multiplier)
        if (multiplier >= 0).all():
            return Requantizer(multiplier=multiplier, shift=base[:, 1].copy(), zero_point=zero_point, low=low,
                               high=high, rounding=rounding)
    return None


def _equal(steps: _Steps, multiplier: Int64, shift: Int64, rounding: Rounding) -> npt.NDArray[np.bool_]:
    """For each channel, whether the rescale reaches each level exactly at its step."""
    at, before = (
        rescale(np.clip(steps.at + offset, -steps.reach, steps.reach), multiplier[:, None], shift[:, None], rounding)
        for offset in (0, -1)
    )
    reaches = (at >= steps.levels) | (steps.at > steps.reach)
    waits = (before < steps.levels) | (steps.at <= -steps.reach)
    return np.asarray((reaches & waits).all(-1))
