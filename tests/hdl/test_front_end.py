# SPDX-License-Identifier: Apache-2.0
"""The front end against a model that is written from its contract, cycle by cycle."""

from dataclasses import replace
from typing import Any

import pytest

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.front_end import FrontEnd
from tilewright_hdl.isa import Store
from tilewright_hdl.isa_layout import instruction_layout
from tilewright_hdl.profile import RecordLayout
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

OWN = 1 << Store.ENGINE
OUTPUTS = ("i__ready", "o__valid", "take", "give", "retired", "record__valid", "record__payload", "idle", "working",
           "waiting", "waiting_index", "counters")


def head(index: int, wait: int, signal: int) -> int:
    layout = instruction_layout(PRESETS["nano4"], Store)
    return int(layout.const({"index": index, "wait": wait, "signal": signal}).as_bits())


@bench(max_cycles=10_000)
async def bench_random(tb: Testbench) -> None:
    """A stand-in engine with any latency, tokens and room at random. Everything is logged."""
    chance, dut = tb.random, tb.dut
    busy, tokens, room = (tb.parameters[name] for name in ("busy", "tokens", "room"))
    log = []
    in_engine = index = 0
    payload = head(0, 0, 0)
    offered = False
    # The decoder offers the instruction on until it has retired.
    held = tb.parameters["held"]
    for now in range(tb.parameters["cycles"]):
        if not offered:
            offered = chance.random() < 0.8
            mask = ~OWN & 0xF
            payload = head(index, chance.getrandbits(4) & mask, chance.getrandbits(4) & mask)
        step = {
            "i__valid": int(offered), "i__payload": payload, "o__ready": int(chance.random() > busy),
            "done": int(in_engine > 0 and chance.random() > busy), "stall": chance.getrandbits(1),
            "halt": int(now >= tb.parameters["cycles"] - 20), "now": now,
            "available": sum((chance.random() < tokens) << e for e in range(4)),
            "room": sum((chance.random() < room) << e for e in range(4)),
            "record__ready": int(chance.random() < 0.7),
        }
        for name, value in step.items():
            getattr(dut, name).value = value
        await tb.settle()
        got = {name: int(getattr(dut, name).value) for name in OUTPUTS}
        log.append([step, got])
        in_engine -= step["done"]
        if step["i__valid"] and got["i__ready"]:
            in_engine += 1
            index += 1
            offered = held
        if held and got["retired"]:
            offered = False
        await tb.cycles()
    tb.result = log


class Model:
    """What the contract says, with lists."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.in_flight: list[dict[str, int]] = []
        self.finished = 0
        self.counters = {"busy": 0, "wait": 0, "stall": 0}
        self.seen: int | None = None
        self.started = self.retired = self.most = 0

    def step(self, s: dict[str, int]) -> dict[str, Any]:
        layout = instruction_layout(self.config, Store).from_bits(s["i__payload"])
        wait, signal, index = (int(layout[name]) for name in ("wait", "signal", "index"))
        tokens = s["available"] & wait == wait
        admitted = len(self.in_flight) < self.config.in_flight and not s["halt"]
        can_issue = bool(s["i__valid"] and s["o__ready"] and admitted)
        start = can_issue and tokens
        finished = self.finished + s["done"]
        oldest = self.in_flight[0] if self.in_flight else {"signal": 0}
        has_room = s["room"] & oldest["signal"] == oldest["signal"]
        offers_record = finished > 0 and has_room
        retire = offers_record and s["record__ready"]
        stuck = finished > 0 and not has_room
        waiting = stuck or (s["i__valid"] and admitted and not tokens)
        out: dict[str, Any] = {
            "o__valid": int(s["i__valid"] and admitted and tokens),
            "take": wait if start else 0,
            "give": oldest["signal"] if retire else 0,
            "retired": int(retire),
            "record__valid": int(offers_record),
            "idle": int(not self.in_flight),
            "working": int(len(self.in_flight) != self.finished),
            "waiting": int(waiting),
            "counters": self.counters["busy"] | self.counters["wait"] << 32 | self.counters["stall"] << 64,
        }
        if not self.config.counters:
            out["counters"] = 0
        if s["i__valid"]:
            out["i__ready"] = int(s["o__ready"] and admitted and tokens)
        if waiting:
            out["waiting_index"] = oldest["index"] if stuck else index
        if offers_record and not self.config.profile_records:
            out["record__payload"] = 0
        elif offers_record:
            out["record__payload"] = RecordLayout().const({
                "index": oldest["index"], "engine": Store.ENGINE, "issue": oldest["issue"], "start": oldest["start"],
                "end": s["now"], "stall": self.counters["stall"] - oldest["stall"],
            }).as_bits()
        self._advance(s, can_issue, start, retire, finished, index, signal)
        return out

    def _advance(
        self, s: dict[str, int], can_issue: bool, start: bool, retire: bool, finished: int, index: int, signal: int
    ) -> None:
        stall = self.counters["stall"]
        if not s["halt"]:
            self.counters["busy"] += bool(self.in_flight)
            self.counters["wait"] += can_issue and not start
            self.counters["stall"] += bool(self.in_flight) and s["stall"]
        if can_issue and self.seen is None:
            self.seen = s["now"]
        if start:
            assert self.seen is not None
            self.in_flight.append(
                {"index": index, "signal": signal, "issue": self.seen, "start": s["now"], "stall": stall})
            self.seen = None
            self.started += 1
            self.most = max(self.most, len(self.in_flight))
        self.finished = finished - retire
        if retire:
            self.in_flight.pop(0)
            self.retired += 1


@pytest.mark.parametrize(
    ("busy", "tokens", "room", "changes"),
    [(0.0, 1.0, 1.0, {}), (0.5, 0.8, 0.8, {}), (0.2, 0.5, 0.4, {}), (0.9, 0.9, 1.0, {}),
     (0.2, 0.5, 0.4, {"in_flight": 2}), (0.2, 0.5, 0.4, {"in_flight": 1}),
     (0.0, 1.0, 1.0, {"in_flight": 1, "profile_records": 0, "counters": False}),
     (0.2, 0.5, 0.4, {"profile_records": 0}),
     (0.2, 0.5, 0.4, {"profile_records": 0, "counters": False})],
)
def test_against_the_model(busy: float, tokens: float, room: float, changes: dict[str, Any]) -> None:
    config = replace(PRESETS["nano4"], **changes)
    parameters = {"busy": busy, "tokens": tokens, "room": room, "cycles": 1500, "held": config.in_flight == 1}
    log = run_bench(FrontEnd(config, Store), __name__, "bench_random", parameters=parameters)
    model = Model(config)
    for cycle, (step, got) in enumerate(log):
        expected = model.step(step)
        assert {name: got[name] for name in expected} == expected, f"in cycle {cycle}, given {step}"
    assert model.retired > 40
    if room < 0.5:
        assert model.most == config.in_flight


