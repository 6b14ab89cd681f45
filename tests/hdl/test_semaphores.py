# SPDX-License-Identifier: Apache-2.0
"""Semaphores against counters in Python."""

import random
from dataclasses import replace

from tilewright_hdl.config import PRESETS
from tilewright_hdl.isa import ENGINES
from tilewright_hdl.semaphores import Semaphores

from .cycle_bench import rtl_cycles

CONFIG = replace(PRESETS["nano4"], semaphore_bits=2)
FULL = (1 << CONFIG.semaphore_bits) - 1
COUNT = len(ENGINES)


def mask(bits: list[list[int]]) -> int:
    """Masks of all engines as one port: bit ``inner`` of engine ``outer``."""
    return sum(bits[outer][inner] << (COUNT * outer + inner) for outer in range(COUNT) for inner in range(COUNT))


def test_random_traffic() -> None:
    chance = random.Random(1)
    counts = [[0] * COUNT for _ in range(COUNT)]
    inputs, expected = [], []
    seen: set[int] = set()
    for cycle in range(3000):
        busy = (0.2, 0.5, 0.8)[cycle // 100 % 3]
        available = [[int(counts[s][e] > 0) for s in range(COUNT)] for e in range(COUNT)]
        room = [[int(e != d and counts[e][d] < FULL) for d in range(COUNT)] for e in range(COUNT)]
        take = [[a * (chance.random() < 1 - busy) for a in row] for row in available]
        give = [[r * (chance.random() < busy) for r in row] for row in room]
        inputs.append({"take": mask(take), "give": mask(give)})
        expected.append({"available": mask(available), "room": mask(room)})
        for s in range(COUNT):
            for d in range(COUNT):
                counts[s][d] += give[s][d] - take[d][s]
                seen.add(counts[s][d])
    assert seen == set(range(FULL + 1))
    assert rtl_cycles(Semaphores(CONFIG), inputs, ["available", "room"]) == expected
