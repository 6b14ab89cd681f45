# SPDX-License-Identifier: Apache-2.0
"""The walk of semaphore tokens in program order."""

from collections.abc import Sequence

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import ENGINES, Engine, Instruction

__all__ = ["TokenWalk", "walk_tokens"]

_PAIRS = [(source, target) for source in ENGINES for target in ENGINES if source != target]
_BITS = [tuple(engine for engine in ENGINES if mask >> engine & 1) for mask in range(1 << len(ENGINES))]


class TokenWalk:
    """What a walk through a program found.

    Members
    -------
    givers : list of list of int
        For each instruction, the places of the instructions whose tokens it takes.
    problems : list of (int or None, str)
        Place of an instruction (None: the end of the program) and what is wrong there.
    """

    def __init__(self) -> None:
        self.givers: list[list[int]] = []
        self.problems: list[tuple[int | None, str]] = []


def walk_tokens(config: AcceleratorConfig, instructions: Sequence[Instruction]) -> TokenWalk:
    """Take and give all tokens in program order.

    The k-th token taken from a semaphore is the k-th that was given, since each engine starts and finishes its
    instructions in order. A ``wait`` on an empty semaphore takes no token, so the walk goes on to find more.
    """
    walk = TokenWalk()
    most = (1 << config.semaphore_bits) - 1
    given: dict[tuple[Engine, Engine], list[int]] = {pair: [] for pair in _PAIRS}
    taken = dict.fromkeys(_PAIRS, 0)
    for place, ins in enumerate(instructions):
        givers = []
        for source in _BITS[ins.wait]:
            pair = (source, ins.ENGINE)
            if taken[pair] < len(given[pair]):
                givers.append(given[pair][taken[pair]])
                taken[pair] += 1
            else:
                walk.problems.append((place, f"waits for a token of {source.name}, but none has been given before it"))
        walk.givers.append(givers)
        for target in _BITS[ins.signal]:
            pair = (ins.ENGINE, target)
            given[pair].append(place)
            if len(given[pair]) - taken[pair] > most:
                walk.problems.append((place, f"signals {target.name}, but the semaphore already holds {most} tokens, "
                                             "all that it can"))
    for (source, target), places in given.items():
        left = len(places) - taken[source, target]
        if left:
            walk.problems.append((None, f"{left} tokens of {source.name} for {target.name} are left over, so that the "
                                        f"program could not run twice; the last was given by instruction {places[-1]}"))
    return walk

