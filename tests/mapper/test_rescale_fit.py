# SPDX-License-Identifier: Apache-2.0
"""Integer multipliers in the place of other rules: equal for every accumulator, or there is none.

The rules are written here a second time, in exact arithmetic.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import floor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Requantizer, Rounding
from tilewright_mapper.rescale_fit import fit_average, fit_half_away

SINGLE, DOUBLE = HARDWARE_ROUNDINGS
INT32 = (1 << 31) - 1
AWAY = Rounding.FLOAT64_HALF_AWAY


def half_away(value: Fraction) -> int:
    """Nearest whole number, halves away from zero."""
    whole = floor(abs(value) + Fraction(1, 2))
    return whole if value > 0 else -whole


def near_steps(slope: float, reach: int) -> list[int]:
    """Accumulators around every place where a rescale by ``slope`` can step, the ends, and some between."""
    ends = [-reach, -reach + 1, -1, 0, 1, reach - 1, reach]
    steps = [] if slope < 1e-14 else [round((k + 0.5) / slope) + d for k in range(-260, 261) for d in range(-3, 4)]
    between = np.random.default_rng(0).integers(-reach, reach + 1, 300).tolist()
    return [acc for acc in (*ends, *steps, *between) if -reach <= acc <= reach]


def away_from_zero(factor: float, accumulators: Iterable[int], zero_point: int, low: int, high: int) -> list[int]:
    """``FLOAT64_HALF_AWAY``: the product is a float64, all else exact."""
    return [min(max(half_away(Fraction(float(acc) * factor)) + zero_point, low), high) for acc in accumulators]


def fit(factors: list[float], **options: object) -> Requantizer | None:
    settings = {"zero_point": 0, "low": -128, "high": 127, "roundings": (SINGLE,), **options}
    return fit_half_away(np.array(factors), **settings)  # type: ignore[arg-type]


def computed(found: Requantizer, channel: int, accumulators: list[int]) -> list[int]:
    one = Requantizer(multiplier=found.multiplier[channel : channel + 1], shift=found.shift[channel : channel + 1],
                      zero_point=found.zero_point, low=found.low, high=found.high, rounding=found.rounding)
    values: list[int] = one.compute(np.array(accumulators, np.int64)[:, None])[:, 0].tolist()
    return values


def factors() -> st.SearchStrategy[float]:
    """Of layers, dyadic (every second accumulator a tie), ratios of small numbers (ties too), tiny, and above one."""
    return st.one_of(
        st.floats(1e-5, 1.0),
        st.builds(lambda m, e: m * 2.0**-e, st.integers(1, 9), st.integers(0, 20)),
        st.builds(lambda p, q: p / q, st.integers(1, 30), st.integers(1, 3000)),
        st.floats(1e-300, 1e-5),
        st.floats(1.0, 300.0),
    )


@given(factors(), st.integers(-128, 127), st.sampled_from(((-128, 127), (0, 127), (-128, 5))),
       st.sampled_from((1, 300, 1 << 20, INT32)), st.sampled_from(HARDWARE_ROUNDINGS), st.sampled_from((31, 17)))
def test_a_fit_equals_its_rule(
    factor: float, zero_point: int, ends: tuple[int, int], reach: int, rounding: Rounding, bits: int
) -> None:
    found = fit([factor], zero_point=zero_point, low=ends[0], high=ends[1], bounds=reach, roundings=(rounding,),
                bits=bits)
    if found is None:
        return
    accumulators = near_steps(factor, reach)
    assert computed(found, 0, accumulators) == away_from_zero(factor, accumulators, zero_point, *ends)
    assert 0 <= found.multiplier[0] < 1 << bits


@pytest.mark.parametrize("factor", [0.5, 0.25, 0.375, 1 / 3, 3 / 14, 1.0, 2.0, 1.5, 0.0371, 127 / 1000])
def test_every_accumulator_of_a_small_range(factor: float) -> None:
    found = fit([factor], bounds=6000)
    assert found is not None
    accumulators = list(range(-6000, 6001))
    assert computed(found, 0, accumulators) == away_from_zero(factor, accumulators, 0, -128, 127)


def test_channels_are_fitted_each_by_itself() -> None:
    several = [0.5, 0.001234, 1e-30, 3.7]
    found = fit(several, bounds=np.array([1000, 1 << 22, 1 << 30, 77]))
    assert found is not None
    assert found.multiplier.shape == found.shift.shape == (4,)
    for channel, factor in enumerate(several):
        accumulators = near_steps(factor, 1000)
        assert computed(found, channel, accumulators) == away_from_zero(factor, accumulators, 0, -128, 127)


def test_what_no_multiplier_equals_is_refused() -> None:
    """One channel is enough. Halves, of a factor of 0.5, need a nudge that is too large in a narrow multiplier."""
    assert fit([0.00123], bits=8) is None
    assert fit([60.1, 0.00123], bits=8) is None
    assert fit([60.1], bits=8) is not None
    assert fit([0.5], bits=8) is None
    assert fit([0.5], bits=8, bounds=100) is not None


def test_a_refusal_is_right() -> None:
    """Where there is no fit, each multiplier nearby differs from the rule somewhere."""
    factor, bits = 0.0123456, 8
    assert fit([factor], bits=bits) is None
    base = fit([0.0123], bits=31)
    assert base is not None
    accumulators = near_steps(factor, 1 << 20)
    wanted = away_from_zero(factor, accumulators, 0, -128, 127)
    for shift in range(2, 40):
        nearest = round(factor * 2**shift)
        for multiplier in range(max(nearest - 3, 0), nearest + 4):
            if multiplier < 1 << bits:
                trial = Requantizer(multiplier=np.array([multiplier]), shift=np.array([shift]), zero_point=0)
                assert computed(trial, 0, accumulators) != wanted


def test_the_first_rule_that_fits_is_taken() -> None:
    found = fit([0.3], roundings=(DOUBLE, SINGLE))
    assert found is not None
    assert found.rounding is SINGLE, "above a shift of 31 a double rounding loses halves"
    found = fit([0.71], roundings=(DOUBLE, SINGLE))
    assert found is not None
    assert found.rounding is DOUBLE


def test_layers_that_occur_are_fitted() -> None:
    """2,000 factors from 1e-4 to 1, whatever the accumulators; 2,000 smaller ones, up to a million."""
    rng = np.random.default_rng(1)
    large, small = (np.exp(rng.uniform(np.log(low), np.log(high), 2000)).tolist()
                    for low, high in ((1e-4, 1), (1e-9, 1e-4)))
    assert fit(large) is not None
    assert fit(small) is None
    assert fit(small, bounds=1 << 20) is not None


# --- Averages of stored integers.


def average(total: int, divisor: int, rounding: Rounding) -> int:
    exact = Fraction(total, divisor)
    nearest = floor(exact + Fraction(1, 2)) if rounding is SINGLE else half_away(exact)
    return min(max(nearest, -128), 127)


def divided(divisor: int, rounding: Rounding, totals: npt.NDArray[np.int64], bits: int = 31) -> list[int] | None:
    found = fit_average(divisor, low=-128, high=127, rounding=rounding, roundings=(DOUBLE, SINGLE), bits=bits)
    if found is None:
        return None
    values: list[int] = found.compute((totals - found.zero_point * divisor)[:, None])[:, 0].tolist()
    return values


@pytest.mark.parametrize("rounding", [SINGLE, AWAY])
@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 6, 9, 10, 12, 16, 49, 64, 98])
def test_every_sum_of_an_average(divisor: int, rounding: Rounding) -> None:
    totals = np.arange(-130 * divisor, 130 * divisor)
    assert divided(divisor, rounding, totals) == [average(total, divisor, rounding) for total in totals.tolist()]


@given(st.integers(1, 255 * 255), st.sampled_from((SINGLE, AWAY)), st.sampled_from((31, 17)))
def test_averages_over_any_window(divisor: int, rounding: Rounding, bits: int) -> None:
    around = [round((k + 0.5) * divisor) + d for k in range(-128, 128) for d in (-1, 0, 1)]
    totals = np.array([total for total in around if abs(total) <= 128 * divisor])
    found = divided(divisor, rounding, totals, bits)
    assert found is not None or bits < 31
    if found is not None:
        assert found == [average(total, divisor, rounding) for total in totals.tolist()]


def test_a_narrow_multiplier_does_not_divide_by_everything() -> None:
    assert divided(49, AWAY, np.zeros(1, np.int64), bits=10) is None
    assert divided(8, AWAY, np.zeros(1, np.int64), bits=12) == [0]
