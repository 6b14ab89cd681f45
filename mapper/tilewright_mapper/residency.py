# SPDX-License-Identifier: Apache-2.0
"""Which constants stay on chip from one inference to the next, and which stream.

A program's code is emitted twice: the first time as if nothing stayed, to see which constants it uses, how large they
are and how often they would be loaded; the second time with what follows from that here. If all constants of a memory
fit, all stay. Else the rest goes through a ring, and what the ring leaves of the memory is filled with the constants
that save most.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Memory

from .allocate import Ring
from .lower_layers import DeviceLayer
from .tiling import BUFFERS, Geometry

__all__ = ["Residency", "Share", "Use", "constant_capacity", "decide", "weights_fit"]

SLACK = 1 / 8
"""Share of the least cost that a larger ring is worth: in it, loads run further ahead."""


class Use(NamedTuple):
    """A constant that an instruction reads.

    Members
    -------
    memory : Memory
    key : hashable
        Equal for equal contents.
    words : int
        Words of the memory; tables count whole.
    pixels : int
        Pixels of the layer that reads it: the fewer, the less there is to hide a load behind.
    """

    memory: Memory
    key: Hashable
    words: int
    pixels: int


@dataclass(frozen=True)
class Share:
    """How a memory is shared out.

    Members
    -------
    kept : mapping of key to int
        Address of each constant that stays.
    words : int
        Words that those take: the ring begins behind them.
    streamed : int
        Words of all constants that go through the ring, each counted once.
    loaded : int
        Words that an inference loads into the ring.
    exposed : int
        Of those, words whose load cannot begin before the instruction ahead of their own is done: they take its place.
    """

    kept: Mapping[Hashable, int] = field(default_factory=dict)
    words: int = 0
    streamed: int = 0
    loaded: int = 0
    exposed: int = 0

    @property
    def cost(self) -> int:
        """Words loaded, those that nothing hides twice."""
        return self.loaded + self.exposed


@dataclass
class Residency:
    """What stays, of all memories, and the loads that bring it on chip.

    Members
    -------
    shares : mapping of Memory to Share
        A memory that is missing has nothing that stays.
    setup : dict of (Memory, key) to list of Load
        Filled by emission, in the order of first use.
    """

    shares: Mapping[Memory, Share] = field(default_factory=dict)
    setup: dict[tuple[Memory, Hashable], list[Load]] = field(default_factory=dict)

    def share(self, memory: Memory) -> Share:
        """How a memory is shared out."""
        return self.shares.get(memory, Share())


def constant_capacity(config: AcceleratorConfig) -> dict[Memory, int]:
    """Words of each memory for constants; whole tables of the tables."""
    return {
        Memory.WEIGHT: config.weight_words,
        Memory.PARAMETER: config.memory.parameter_groups,
        Memory.TABLE: config.post.tables,
    }


def weights_fit(config: AcceleratorConfig, layers: Iterable[DeviceLayer]) -> bool:
    """Whether the weights of all layers of a program fit together, so that all will stay, however layers are cut."""
    return sum(Geometry(config, layer).total_weight_words for layer in layers) <= config.weight_words


def decide(config: AcceleratorConfig, runs: Sequence[Sequence[Use]]) -> Residency:
    """Share out the memories among the constants of a program; ``runs`` has what each of its runs uses, in order."""
    return Residency({
        memory: _share(capacity, [[use for use in run if use.memory is memory] for run in runs])
        for memory, capacity in constant_capacity(config).items()
    })


def _share(capacity: int, runs: Sequence[Sequence[Use]]) -> Share:
    constants = list({use.key: use for run in runs for use in run}.values())
    if sum(use.words for use in constants) <= capacity:
        return _shared(capacity, runs, constants)
    misses, _ = _through(Ring(capacity), runs, {})
    # What is loaded most often saves most, then what has the least work to hide a load behind.
    by_value = sorted(constants, key=lambda use: (-misses[use.key], use.pixels))
    large_first = sorted(by_value, key=lambda use: (-misses[use.key], use.pixels, -use.words))
    shares = [_shared(capacity, runs, kept)
              for order in (by_value, large_first) for kept in _selections(capacity, order)]
    least = min(share.cost for share in shares)
    return min((s for s in shares if s.cost <= (1 + SLACK) * least), key=lambda s: (s.words, s.cost))


def _selections(capacity: int, by_value: Sequence[Use]) -> Iterator[list[Use]]:
    """Constants that might stay: none; or, for each size, what fits beside a ring for two of it, larger ones first."""
    yield []
    for most in sorted({use.words for use in by_value}):
        room = capacity - BUFFERS * most - sum(use.words for use in by_value if use.words > most)
        if room < 0:
            continue
        kept = []
        for use in by_value:
            if use.words > most:
                kept.append(use)
            elif use.words <= room:
                kept.append(use)
                room -= use.words
        yield kept


def _shared(capacity: int, runs: Sequence[Sequence[Use]], kept: Sequence[Use]) -> Share:
    """A memory in which some constants stay."""
    ends = list(accumulate((use.words for use in kept), initial=0))
    addresses = {use.key: start for use, start in zip(kept, ends, strict=False)}
    streamed = {use.key: use.words for run in runs for use in run if use.key not in addresses}
    misses, exposed = _through(Ring(capacity - ends[-1]), runs, addresses)
    loaded = sum(streamed[key] * n for key, n in misses.items())
    return Share(addresses, ends[-1], sum(streamed.values()), loaded, exposed)


def _through(
    ring: Ring, runs: Sequence[Sequence[Use]], kept: Collection[Hashable]
) -> tuple[Counter[Hashable], int]:
    """How often an inference loads each constant through a ring, which each run begins anew; ``Share.exposed``."""
    misses: Counter[Hashable] = Counter()
    exposed = 0
    for run in runs:
        ring.clear()
        ahead = None
        for use in run:
            if use.key not in kept and ring.find(use.key) is None:
                ring.put(use.key, use.words)
                misses[use.key] += 1
                if ahead is not None and ahead.key not in kept and ring.find(ahead.key) is None:
                    exposed += use.words
            ahead = use
    return misses, exposed
