# SPDX-License-Identifier: Apache-2.0
"""Sets of cycles and levels against plain sets; the array's passes at once against one by one."""

from hypothesis import given
from hypothesis import strategies as st

from tilewright_hdl.config import PRESETS
from tilewright_hdl.exec_timing import ExecTimeline
from tilewright_hdl.isa import Exec
from tilewright_sim.cycle_runs import CycleRuns, Level

small = st.integers(0, 6)


@given(st.lists(st.tuples(small, small, small, small), max_size=8), st.lists(small, max_size=20))
def test_runs_count_like_a_set(runs, steps):
    found, cycles, at = CycleRuns(), set(), 0
    for gap, length, pause, count in runs:
        first, period = at + gap, length + pause
        found.add(first, length, period=period, count=count)
        cycles |= {first + i * period + k for i in range(count) for k in range(length)}
        at = first + max(0, count - 1) * period + length
    now = 0
    for step in steps:
        now += step
        assert found.before(now) == sum(1 for cycle in cycles if cycle < now)


@given(st.lists(st.tuples(small, small), max_size=6), small)
def test_extend_joins_two_sets(runs, asked):
    first, second, whole, at = CycleRuns(), CycleRuns(), CycleRuns(), 0
    for number, (gap, length) in enumerate(runs):
        for target in (first if number < 3 else second, whole):
            target.add(at + gap, length)
        at += gap + length
    assert second.before(asked) + first.before(asked) == whole.before(asked)
    first.extend(second)
    assert first.before(1000) == whole.before(1000)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_a_level_is_high_from_the_cycle_after_a_rise_to_the_fall(events):
    level, now, reasons, high = Level(), 0, 0, set()
    for step, up in events:
        # What rises falls in a later cycle.
        step = step if up else max(1, step)
        high |= {cycle for cycle in range(now + 1, now + step + 1) if reasons}
        now += step
        assert level.before(now) == sum(1 for cycle in high if cycle < now)
        if up:
            level.up(now)
            reasons += 1
        elif reasons:
            level.down(now)
            reasons -= 1
    assert level.before(now + 5) == len(high | {c for c in range(now + 1, now + 5) if reasons})


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 4)), max_size=5))
def test_passes_at_once_are_passes_one_by_one(instructions):
    config = PRESETS["nano4"]
    at_once, one_by_one = ExecTimeline(config), ExecTimeline(config)
    offered = 0
    for gap, passes, width, taps in instructions:
        offered += gap
        ins = Exec(bank=0, input_address=0, weight_address=0, column_tiles=passes, depthwise=int(taps > 0),
                   kernel_width=max(1, taps), output_height=1, output_width=width, input_height=1, input_width=1)
        assert at_once.transfer(offered, ins) == one_by_one.transfer(offered, ins)
        at_once.issue_passes(passes)
        for _ in range(passes):
            one_by_one.begin_pass()
            one_by_one.issue(one_by_one.earliest, ins.vectors)
        assert vars(at_once) == vars(one_by_one)
        assert at_once.done == one_by_one.done
