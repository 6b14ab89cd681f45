# SPDX-License-Identifier: Apache-2.0
"""The trace of a profile: tracks, slices that do not overlap, true cycles in the arguments."""

import json
from itertools import pairwise

import pytest

from tests.sim.test_checker import NANO, program
from tilewright_hdl.isa import ENGINES, Engine
from tilewright_sim.cycle_model import simulate
from tilewright_sim.machine import ProfileRecord
from tilewright_sim.profile_trace import WAITING, trace_events

RECORDS = [
    ProfileRecord(index=0, engine=Engine.LOAD, issue=3, start=3, end=20, stall=9),
    ProfileRecord(index=1, engine=Engine.LOAD, issue=5, start=5, end=25, stall=0),
    ProfileRecord(index=2, engine=Engine.EXEC, issue=4, start=26, end=60, stall=2),
    ProfileRecord(index=3, engine=Engine.EXEC, issue=50, start=70, end=90, stall=0),
]
NAMES = ["weights", "inputs", "conv1", "conv2"]


def slices(events, engine):
    return [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == engine]


def test_one_named_track_for_each_engine():
    events = trace_events(RECORDS, NAMES)
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert named == {int(engine): engine.name for engine in ENGINES}
    assert not slices(events, Engine.POST)


def test_slices_show_instructions_and_waits():
    events = trace_events(RECORDS, NAMES)
    assert slices(events, Engine.LOAD) == [("weights", 3, 17), ("inputs", 20, 5)]
    assert slices(events, Engine.EXEC) == [
        (WAITING, 4, 22), ("conv1", 26, 34), (WAITING, 60, 10), ("conv2", 70, 20)]


def test_arguments_are_the_true_cycles():
    (inputs,) = [e for e in trace_events(RECORDS, NAMES, offset=100) if e["name"] == "inputs"]
    assert inputs["args"] == {"index": 1, "issue": 5, "start": 5, "end": 25, "stall": 0, "wait": 0}
    assert (inputs["ts"], inputs["cat"]) == (120, "LOAD")


def test_order_of_records_does_not_matter_and_the_trace_is_json():
    events = trace_events(RECORDS, NAMES)
    assert json.loads(json.dumps(events)) == events == trace_events(RECORDS[::-1], NAMES)


def test_slices_of_a_program_never_overlap():
    records = simulate(NANO, program()).profile
    events = trace_events(records, [f"tile {r.index}" for r in records])
    for engine in ENGINES:
        for (_, begin, length), (_, following, _) in pairwise(slices(events, engine)):
            assert begin + length <= following
    assert sum(1 for e in events if e["ph"] == "X" and e["name"] != WAITING) == len(records)


def test_refuses_a_negative_offset():
    with pytest.raises(ValueError, match="offset must not be negative, was -1"):
        trace_events(RECORDS, NAMES, offset=-1)
