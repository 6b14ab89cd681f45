# SPDX-License-Identifier: Apache-2.0
"""The strict SDRAM model: a correct sequence passes, and each planted violation is told by its name."""

import dataclasses
import functools
from typing import Any

import pytest

from tilewright_hdl.sdram_config import CHIPS
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.sdram_model import RULES, broken_rules, sdram_model, violation
from tilewright_sim.testbench import Testbench, bench
from tilewright_sim.verilator import lint

MHZ = 80
CHIP = dataclasses.replace(CHIPS["ULX3S"], power_up=1_000_000)
# Pins ras_n, cas_n, we_n of the commands.
PINS = {"NOP": 7, "ACTIVE": 3, "READ": 5, "WRITE": 4, "PRECHARGE": 2, "REFRESH": 1, "MODE": 0, "STOP": 6}
ALL = 1 << 10
BURST_4, CAS_2, CAS_3 = 2, 2 << 4, 3 << 4
POWER_UP_CYCLES = 80
REFRESH_CYCLES = 625


def nop(count: int) -> list[Any]:
    return [["NOP", 0, 0]] * count


def start(mode: int = BURST_4 | CAS_2, refreshes: int = 8, wait: int = POWER_UP_CYCLES) -> list[Any]:
    """From power-up to the first access, with no cycle to spare."""
    refresh = [["REFRESH", 0, 0], *nop(5)]
    return [*nop(wait), ["PRECHARGE", 0, ALL], *nop(1), *refresh * refreshes, ["MODE", 0, mode], *nop(1)]


def write(bank: int, column: int, words: list[int], mask: int = 0) -> list[Any]:
    """WRITE with its words; it takes as many cycles as there are words."""
    return [["WRITE" if n == 0 else "NOP", bank, column, word, mask] for n, word in enumerate(words)]


WORDS = [0x1111, 0x2222, 0x3333, 0x4444]
ACTIVE = [["ACTIVE", 1, 5], *nop(1)]
WRITTEN = [*start(), *ACTIVE, *write(1, 8, WORDS)]
READ = [["READ", 1, 8], *nop(3)]
# What is correct, as tightly as the times allow.
CORRECT = {
    "read at once": [*WRITTEN, *READ, *nop(3)],
    "reads without a gap": [*WRITTEN, *READ, *READ, *nop(3)],
    "write after read": [*WRITTEN, *READ, *nop(3), *write(1, 8, WORDS)],
    "close after read": [*WRITTEN, *READ, ["PRECHARGE", 1, 0], *nop(1), ["ACTIVE", 1, 9]],
    "close after write": [*WRITTEN, *nop(1), ["PRECHARGE", 1, 0], *nop(1), ["ACTIVE", 1, 9]],
    "two banks": [*start(), ["ACTIVE", 1, 5], *nop(1), ["ACTIVE", 2, 5], *nop(1), *write(1, 8, WORDS),
                  *write(2, 8, WORDS)],
    "latency 3": [*start(BURST_4 | CAS_3), *ACTIVE, *write(1, 8, WORDS), *READ, *nop(4), *write(1, 8, WORDS)],
    "refresh": [*WRITTEN, *nop(1), ["PRECHARGE", 0, ALL], *nop(1), ["REFRESH", 0, 0], *nop(5), *ACTIVE],
    "eight refreshes late": [*WRITTEN, *nop(8 * REFRESH_CYCLES)],
}
OPEN = [*start(), *ACTIVE]
WRONG = {
    "TOO_EARLY": [*start(wait=POWER_UP_CYCLES - 2)],
    "CKE_LOW": [*start(), ["CKE", 0, 0]],
    "NOT_PRECHARGED": [*nop(POWER_UP_CYCLES), ["REFRESH", 0, 0]],
    "NOT_READY": [*start(refreshes=7), ["ACTIVE", 0, 0]],
    "MODE_VALUE": start(mode=7 | CAS_2),
    "ALREADY_OPEN": [*OPEN, *nop(6), ["ACTIVE", 1, 6]],
    "CLOSED": [*start(), ["READ", 1, 8]],
    "ROW_OPEN": [*OPEN, *nop(6), ["REFRESH", 0, 0]],
    "COLUMN": [*WRITTEN, ["READ", 1, 8 | 1 << 9]],
    "AUTO_PRECHARGE": [*WRITTEN, ["READ", 1, 8 | ALL]],
    "BURST_STOP": [*start(), ["STOP", 0, 0]],
    "INTERRUPTED": [*WRITTEN, *READ[:3], *READ],
    "TRUNCATED": [*WRITTEN, *READ[:3], ["PRECHARGE", 1, 0]],
    "T_RCD": [*start(), ["ACTIVE", 1, 5], *write(1, 8, WORDS)],
    "T_RP": [*WRITTEN, *nop(1), ["PRECHARGE", 1, 0], ["ACTIVE", 1, 9]],
    "T_RAS": [*OPEN, *nop(1), ["PRECHARGE", 1, 0]],
    "T_RC": [*OPEN, *nop(2), ["PRECHARGE", 1, 0], ["ACTIVE", 1, 9]],
    "T_RRD": [*start(), ["ACTIVE", 1, 5], ["ACTIVE", 2, 5]],
    "T_RFC": [*start(), ["REFRESH", 0, 0], *nop(4), ["ACTIVE", 0, 0]],
    "T_WR": [*WRITTEN, ["PRECHARGE", 1, 0]],
    "T_MRD": [*start()[:-1], ["ACTIVE", 0, 0]],
    "MISSED_REFRESH": [*start(), *nop(9 * REFRESH_CYCLES)],
    "T_RAS_MAX": [*OPEN, *nop(100 * MHZ), ["PRECHARGE", 1, 0]],
    "CONTENTION": [*WRITTEN, *READ, *write(1, 8, WORDS)],
    "TURNAROUND": [*WRITTEN, *READ, *nop(2), *write(1, 8, WORDS)],
    "NO_DATA": [*WRITTEN[:-1], *nop(1)],
    "STRAY": [*start(), ["NOP", 0, 0, 0x1234]],
    "UNWRITTEN": [*WRITTEN, ["READ", 1, 9], *nop(3), ["READ", 1, 12], *nop(5)],
}
# Rules that cannot be broken alone by the sequence above.
TOGETHER = {"T_RC": {"T_RP"}, "T_RAS_MAX": {"MISSED_REFRESH"}, "CONTENTION": {"TURNAROUND"}}


def rtl_scripts(scripts: list[list[Any]]) -> list[dict[str, Any]]:
    """What the model says to each script, and the words that it drove."""
    result: list[dict[str, Any]] = run_bench(model(), __name__, "bench_scripts", parameters={"scripts": scripts},
                                             top="sdram_model")
    return result


@functools.cache
def model() -> str:
    return sdram_model(CHIP, MHZ * 1_000_000, check_unwritten=True)


@bench(max_cycles=100_000)
async def bench_scripts(tb: Testbench) -> None:
    tb.result = []
    for script in tb.parameters["scripts"]:
        tb.result.append(await _play(tb, script))


async def _play(tb: Testbench, script: list[Any]) -> dict[str, Any]:
    dut = tb.dut
    dut.power.value, dut.cke.value, dut.cs_n.value = 0, 1, 0
    dut.dq_oe_i.value = 0
    await tb.cycles()
    dut.power.value = 1
    words: list[int] = []
    before = None
    for step in script:
        name, bank, address, *data = step
        if step != before:
            pins = PINS.get(name, PINS["NOP"])
            dut.cke.value = int(name != "CKE")
            dut.ras_n.value, dut.cas_n.value, dut.we_n.value = pins >> 2, pins >> 1 & 1, pins & 1
            dut.ba.value, dut.a.value = bank, address
            dut.dq_oe_i.value, dut.dq_i.value = int(bool(data)), data[0] if data else 0
            dut.dqm.value = data[1] if len(data) > 1 else 0
        before = step
        await tb.settle()
        if int(dut.dq_oe_o.value):
            words.append(int(dut.dq_o.value))
        await tb.cycles()
    return {"words": words, "broken": int(dut.broken.value),
            "violation": [int(getattr(dut, name).value) for name in ("error", "error_bank", "error_ps")]}


def test_lint() -> None:
    assert lint(model(), "sdram_model") == []


def test_correct_sequences() -> None:
    results = rtl_scripts(list(CORRECT.values()))
    assert {name: broken_rules(result["broken"]) for name, result in zip(CORRECT, results, strict=True)} == {
        name: set() for name in CORRECT}
    words = {name: result["words"] for name, result in zip(CORRECT, results, strict=True)}
    assert words["read at once"] == words["latency 3"] == WORDS
    assert words["reads without a gap"] == WORDS * 2
    assert words["two banks"] == []


def test_masks_and_wrapped_bursts() -> None:
    masked = [*WRITTEN, *write(1, 8, [0xAAAA] * 4, mask=1), ["READ", 1, 10], *nop(5)]
    # The word that is read two cycles after its mask is not driven: noise.
    read_mask = [*WRITTEN, ["READ", 1, 8], ["NOP", 0, 0], *nop(4)]
    words = [result["words"] for result in rtl_scripts([masked, read_mask])]
    assert words == [[0xAA33, 0xAA44, 0xAA11, 0xAA22], WORDS]


def test_planted_violations() -> None:
    results = rtl_scripts(list(WRONG.values()))
    found = {rule: broken_rules(result["broken"]) for rule, result in zip(WRONG, results, strict=True)}
    assert found == {rule: {rule, *TOGETHER.get(rule, ())} for rule in WRONG}
    # tests/hdl/test_sdram_controller.py has that one: at this clock, both latencies are long enough.
    assert set(RULES) - set(WRONG) == {"MODE_CAS"}
    early = violation(*results[list(WRONG).index("T_RRD")]["violation"])
    assert early is not None
    assert early.rule == "T_RRD"
    assert early.bank == 2
    assert early.time_ps == (len(start()) + 2) * 10**6 // MHZ
    assert str(early) == f"{early.time_ps} ps after power-up, bank 2: {RULES['T_RRD']}"


@pytest.mark.parametrize(("error", "expected"), [(0, None), (1, next(iter(RULES)))])
def test_violation(error: int, expected: str | None) -> None:
    found = violation(error, 3, 99)
    assert (found and found.rule) == expected
