# SPDX-License-Identifier: Apache-2.0
"""The activation scratchpad against a list, with every port busy and every bank contended."""

import random
from dataclasses import replace

import pytest

from tilewright_hdl.activation_memory import ActivationMemory
from tilewright_hdl.config import PRESETS, AcceleratorConfig, MemoryConfig

from .cycle_bench import rtl_cycles

READS = ("post_read", "store_read", "exec_read")
WRITES = ("post_write", "load_write")


def config(banks: int, windows: bool, registered: bool) -> AcceleratorConfig:
    nano = PRESETS["nano4"]
    return replace(nano, bus=replace(nano.bus, windows=windows, registered=registered), memory=MemoryConfig(
        activation_bytes=256, weight_bytes=256, accumulator_entries=16, parameter_groups=4, activation_banks=banks
    ))


@pytest.mark.parametrize(("banks", "windows", "registered"), [
    (1, True, False), (2, True, False), (4, True, False), (2, False, False), (4, True, True),
])
def test_all_ports(banks: int, windows: bool, registered: bool) -> None:
    dut_config = config(banks, windows, registered)
    words, bank_words, bits = dut_config.activation_words, dut_config.activation_bank_words, 8 * dut_config.array.rows
    parts = {"post_write": dut_config.row_groups, "load_write": dut_config.activation_parts}
    chance = random.Random(banks)
    contents = [0] * words
    inputs, expected = [], []
    answers: dict[str, int] = {}
    waits = 0
    for cycle in range(1500):
        hot = chance.randrange(words)
        step, out = {}, {f"{port}__data": answers.get(port) for port in READS}
        for port in (*READS, *WRITES):
            step[f"{port}__valid"] = int(chance.random() < (0.5, 0.9)[cycle // 200 % 2])
            step[f"{port}__address"] = chance.choice([hot, chance.randrange(words)])
        for port in WRITES:
            step[f"{port}__data"] = chance.getrandbits(bits)
            step[f"{port}__mask"] = chance.getrandbits(parts[port])
        answers = {}
        for ports in (READS, WRITES):
            taken: set[int] = set()
            for port in ports:
                address = step[f"{port}__address"]
                # Whoever writes keeps the others out of all banks then.
                bank = 0 if registered and ports is WRITES else address // bank_words
                out[f"{port}__ready"] = int(bank not in taken)
                if not step[f"{port}__valid"]:
                    continue
                waits += bank in taken
                if bank not in taken and ports is READS:
                    answers[port] = contents[address]
                taken.add(bank)
        for port in WRITES:
            if step[f"{port}__valid"] and out[f"{port}__ready"]:
                address = step[f"{port}__address"]
                part = bits // parts[port]
                for group in range(parts[port]):
                    if step[f"{port}__mask"] >> group & 1:
                        field = ((1 << part) - 1) << group * part
                        contents[address] = contents[address] & ~field | step[f"{port}__data"] & field
        inputs.append(step)
        expected.append(out)
    assert waits > 100
    outputs = rtl_cycles(ActivationMemory(dut_config), inputs, list(expected[0]))
    # Data is there only in the cycle after a grant.
    for want, got in zip(expected, outputs, strict=True):
        assert {k: got[k] for k, v in want.items() if v is not None} == {k: v for k, v in want.items() if v is not None}
