# SPDX-License-Identifier: Apache-2.0
"""The profile memory against a list: records go in at any time, words come out at any time, too many are counted."""

import random
from dataclasses import replace

import pytest

from tilewright_hdl.config import PRESETS
from tilewright_hdl.profile import Profile, RecordLayout
from tilewright_hdl.registers import PROFILE_FIELDS, TAG_ENGINE_OFFSET

from .cycle_bench import rtl_cycles

CONFIG = replace(PRESETS["nano4"], profile_records=4)


def words_of(record: dict[str, int]) -> list[int]:
    tag = record["index"] | record["engine"] << TAG_ENGINE_OFFSET
    return [tag, *(record[name.lower()] for name in PROFILE_FIELDS[1:])]


@pytest.mark.parametrize("reading", [0.1, 0.6, 1.0])
def test_random_traffic(reading: float) -> None:
    chance = random.Random(reading)
    layout = RecordLayout()
    kept: list[tuple[int, list[int]]] = []
    part = lost = 0
    inputs, expected = [], []
    for cycle in range(2000):
        record = {
            "index": chance.getrandbits(20), "engine": chance.randrange(4),
            **{name: chance.getrandbits(32) for name in ("issue", "start", "end", "stall")},
        }
        push = chance.random() < 0.12
        count = len(kept)
        # The first word may be read two cycles after its record went in.
        ready = count and cycle >= kept[0][0] + 2
        go = bool(ready) and chance.random() < reading
        inputs.append({"record__valid": int(push), "record__payload": layout.const(record).as_bits(), "next": int(go)})
        expected.append({"count": count, "lost": lost, "record__ready": 1,
                         "word": kept[0][1][part] if ready else None if count else 0})
        if push and count == CONFIG.profile_records:
            lost += 1
        elif push:
            kept.append((cycle, words_of(record)))
        if go:
            part += 1
            if part == len(PROFILE_FIELDS):
                part = 0
                kept.pop(0)
    outputs = rtl_cycles(Profile(CONFIG), inputs, ["count", "lost", "word", "record__ready"])
    for want, got in zip(expected, outputs, strict=True):
        assert {k: got[k] for k, v in want.items() if v is not None} == {k: v for k, v in want.items() if v is not None}
    if reading == 0.1:
        assert lost > 10


def test_without_memory_records_are_dropped_and_not_counted() -> None:
    inputs = [{"record__valid": int(cycle % 3 == 0), "record__payload": cycle, "next": 1} for cycle in range(12)]
    dut = Profile(replace(CONFIG, profile_records=0))
    outputs = rtl_cycles(dut, inputs, ["lost", "word", "record__ready"])
    assert {(o["lost"], o["word"], o["record__ready"]) for o in outputs} == {(0, 0, 1)}


def test_reading_nothing_does_nothing() -> None:
    inputs = [{"record__valid": 0, "record__payload": 0, "next": 1}] * 12
    assert {(o["count"], o["word"]) for o in rtl_cycles(Profile(CONFIG), inputs, ["count", "word"])} == {(0, 0)}
