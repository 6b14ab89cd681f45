# SPDX-License-Identifier: Apache-2.0
"""The search for a layer's tiling: candidates by a rough count first, the best of those by the cycle model."""

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright_hdl.bus_timing import transfer_row_beats
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Instruction, Load, Memory, Store
from tilewright_sim.cycle_model import simulate

from .allocate import BlockRequest, pack
from .emit import Constants, Emitter
from .emit_operands import Place
from .emit_windows import packing_cycles
from .layout import Rect
from .lower_layers import DeviceLayer
from .schedule import dependencies, place_tokens, posts_early, program_order, transfer_cycles
from .tiling import BUFFERS, Chunk, Geometry, Tiling, candidates

__all__ = ["ROLES", "Choice", "bank_wishes", "least_cycles", "ordered", "rough_cycles", "search"]

ROLES = ("source", "residual", "output")
MODELLED = 12
"""Candidates that the cycle model sees."""
MODELLED_TILES = 8192
"""Tiles that it sees, of all candidates of a layer: where one has more, the rough count decides."""
COUNTED_TILES = 1 << 15
"""Tiles that the rough count sees, of all candidates, where it compares layers."""
MOST_TILES = 256
"""Candidates with more tiles than this, and than twice those of the largest, are left out."""
HOPELESS = 1.5
"""Candidates whose rough count is so many times the best one's are left out; for long layers it errs by a fourth."""
SLACK, MOST_SLACK = 0.01, 1000
"""Share of a layer's cycles, alone, that means nothing, since its neighbours overlap with its ends; and its limit."""

_TILE_CYCLES = 20
"""Rough cycles by which each tile keeps the post-processor longer than its steps."""


@dataclass(frozen=True)
class Choice:
    """A layer's tiling.

    Members
    -------
    tiling : Tiling
    cycles : int
        Of the layer alone, by the cycle model.
    first_fit : Tiling
        The largest tiles that fit, which is what one would take without a search.
    first_fit_cycles : int
    runners_up : tuple of Tiling
        Others, the fastest first.
    """

    tiling: Tiling
    cycles: int
    first_fit: Tiling
    first_fit_cycles: int
    runners_up: tuple[Tiling, ...] = ()


def ordered(config: AcceleratorConfig, instructions: list[Instruction]) -> tuple[list[Instruction], list[int]]:
    """A program, with semaphore tokens, of instructions that could run one by one; and the place each came from."""
    early = posts_early(config, instructions)
    instructions = [instructions[i] for i in early]
    waits = dependencies(config, instructions)
    order = program_order(config, instructions, waits)
    place = {old: new for new, old in enumerate(order)}
    moved = [tuple(sorted(place[j] for j in waits[old])) for old in order]
    return place_tokens(config, [instructions[old] for old in order], moved), [early[old] for old in order]


def search(
    config: AcceleratorConfig, layer: DeviceLayer, streamed: frozenset[str], words: int, *, weights_stay: bool = False
) -> Choice | None:
    """Best tiling of a layer: among those within a hair of the fewest cycles the one with the least traffic.

    Parameters
    ----------
    streamed : frozenset of str
        Roots of operands that are not on chip as a whole.
    words : int
        Activation words that their buffers may take.
    weights_stay : bool
        Whether the layer's weights are on chip from the inference before.

    Returns
    -------
    Choice, or None
        ``None`` if not even the smallest tile fits.
    """
    geometry = Geometry(config, layer)
    tilings = candidates(geometry, streamed, words)
    if not tilings:
        return None
    tilings, fewest_tiles = _sensible(geometry, tilings)
    modelled = max(1, min(MODELLED, MODELLED_TILES // fewest_tiles))
    rough = {t: rough_cycles(geometry, t, streamed, weights_stay) for t in tilings}
    best = [t for t in sorted(rough, key=rough.__getitem__)[:modelled] if rough[t] <= HOPELESS * min(rough.values())]
    programs = {t: _alone(geometry, t, streamed, weights_stay) for t in dict.fromkeys((*best, tilings[0]))}
    cycles = {t: simulate(config, ordered(config, program)[0]).cycles for t, program in programs.items()}
    fewest = min(cycles.values())
    enough = fewest + min(fewest * SLACK, MOST_SLACK)

    def cost(tiling: Tiling) -> tuple[int, int]:
        transfers = [i for i in programs[tiling] if isinstance(i, Load | Store)]
        return sum(i.rows * transfer_row_beats(config, i) for i in transfers), len(programs[tiling])

    tiling = min((t for t in programs if cycles[t] <= enough), key=cost)
    runners_up = tuple(t for t in sorted(programs, key=cycles.__getitem__) if t != tiling)
    return Choice(tiling, cycles[tiling], tilings[0], cycles[tilings[0]], runners_up)


def _sensible(geometry: Geometry, tilings: list[Tiling]) -> tuple[list[Tiling], int]:
    """Tilings without those of far more tiles than others, except for the first one; and the fewest tiles."""
    counts = {t: len(geometry.rects(t)) * len(geometry.chunks(t.channels)) for t in tilings}
    fewest = min(counts.values())
    most = max(MOST_TILES, 2 * fewest)
    return [tilings[0], *(t for t in tilings[1:] if counts[t] <= most)], fewest


def least_cycles(config: AcceleratorConfig, layer: DeviceLayer) -> int | None:
    """Rough cycles of a layer that has the accelerator for itself, in the best tiles; ``None`` if none fits."""
    geometry = Geometry(config, layer)
    operands = {o.root: o.height * o.width * geometry.words(o) for o in (*layer.operands, layer.target)}
    streamed = frozenset(operands if sum(operands.values()) > config.activation_words else ())
    tilings = candidates(geometry, streamed, config.activation_words)
    if not tilings:
        return None
    tilings, fewest_tiles = _sensible(geometry, tilings)
    # Of a layer that is too large to be worth the time, the largest tiles alone.
    return min(rough_cycles(geometry, t, streamed) for t in tilings[:max(1, COUNTED_TILES // fewest_tiles)])


def rough_cycles(geometry: Geometry, tiling: Tiling, streamed: frozenset[str], weights_stay: bool = False) -> int:
    """Cycles of the busiest engine for a layer, and of the ends of the layer where nothing overlaps; a rough count."""
    layer = geometry.layer
    rects, chunks = geometry.rects(tiling), geometry.chunks(tiling.channels)
    tiles = len(rects) * len(chunks)
    groups = sum(chunk.groups[1] for chunk in chunks)
    window = layer.window.kernel[0] * layer.window.kernel[1]
    # Both operands of an addition of activations come through one port.
    interval = max(geometry.config.post.interval, 2 if layer.conv is None and layer.residual is not None else 1)
    post = groups * window * interval * layer.output.height * layer.output.width
    array = 0 if geometry.form is None else sum(geometry.form.cycles(geometry.middle(rect)) for rect in rects)
    load = _rough_loads(geometry, tiling, streamed, rects, chunks, weights_stay)
    return max(post + _TILE_CYCLES * tiles, array, load) + (post + load) // tiles


def _rough_loads(
    geometry: Geometry, tiling: Tiling, streamed: frozenset[str], rects: list[Rect], chunks: list[Chunk],
    weights_stay: bool,
) -> int:
    """Cycles of the loads of a layer, as in :func:`rough_cycles`."""
    config, layer = geometry.config, geometry.layer
    weights = geometry.total_weight_words
    if weights > config.weight_words and not tiling.channels_outer:
        weights *= len(rects)
    hidden = weights_stay or BUFFERS * weights <= config.weight_words
    cycles = 0 if hidden else transfer_cycles(config, 1, weights, Memory.WEIGHT)
    again = len(chunks) if tiling.channels_outer and len(rects) > BUFFERS else 1
    for role in ("source", "residual"):
        operand = getattr(layer, role)
        if operand is not None and operand.packing:
            # Comes from main memory even where it stays on chip.
            pieces = again * [geometry.input(rect) for rect in rects] if operand.root in streamed else [operand]
            cycles += sum(packing_cycles(config, operand.packing, piece.height, piece.width) for piece in pieces)
            continue
        if operand is None or operand.root not in streamed:
            continue
        whole = geometry.words(operand)
        partial = tiling.channels_outer if role == "residual" else geometry.own_words and len(chunks) > 1
        for rect in rects:
            piece = geometry.input(rect) if role == "source" else geometry.residual(rect)
            if partial:
                cycles += sum(transfer_cycles(config, piece.pixels, chunk.words[1]) for chunk in chunks)
            else:
                cycles += again * transfer_cycles(config, 1, piece.pixels * whole)
    return cycles


def bank_wishes(layer: DeviceLayer, names: Mapping[str, str]) -> dict[frozenset[str], int]:
    """Blocks that should not share a bank, since two engines read them at the same time, with the reads at stake.

    ``names`` gives the block of each role.
    """
    wishes: dict[frozenset[str], int] = {}
    pixels = layer.output.height * layer.output.width * layer.output.channels
    for other in ("residual", "output"):
        if other in names and names[other] != names["source"]:
            # The residual is read for every tile; the output only if it is stored.
            wishes[frozenset((names["source"], names[other]))] = pixels * (4 if other == "residual" else 1)
    return wishes


def _alone(
    geometry: Geometry, tiling: Tiling, streamed: frozenset[str], weights_stay: bool
) -> list[Instruction]:
    """Instructions of a layer by itself, its whole operands on chip already."""
    config, layer = geometry.config, geometry.layer
    # Weights that leave room for a neighbour's come while that one computes.
    prefetched = BUFFERS * geometry.total_weight_words <= config.weight_words
    emitter = Emitter(config, Constants(config, sizes_only=True), weights_on_chip=weights_stay or prefetched)
    # Packing takes too long to be left out.
    emitter.loaded = {layer.source.root: 0} if layer.source.packing else {}
    emitter.layer(0, layer, tiling, _places_alone(geometry, tiling, streamed))
    return [e.instruction for e in emitter.emitted]


def _places_alone(geometry: Geometry, tiling: Tiling, streamed: frozenset[str]) -> dict[str, Place]:
    config, layer = geometry.config, geometry.layer
    buffers = geometry.buffer_words(tiling, streamed)
    roles = [r for r in ROLES if getattr(layer, r) is not None]
    requests, names = [], {}
    for role in roles:
        operand = geometry.operand(role)
        whole = geometry.words(operand) * geometry.pixels(role)
        words = tiling.buffers * buffers[role] if role in buffers else whole
        names[role] = role if role in buffers else operand.root
        requests.append(BlockRequest(names[role], words, 0, 0))
    unique = list({r.name: r for r in requests}.values())
    placed = pack(config.activation_words, unique, bank_words=config.activation_bank_words,
                  apart=bank_wishes(layer, names))
    if placed is None:
        # The output does not fit beside its operands, so it will be written over the one that has its size.
        under = next(names[role] for role in ("residual", "source")
                     if role in names and geometry.pixels(role) == geometry.pixels("output"))
        placed = pack(config.activation_words, [r for r in unique if r.name != names["output"]])
        assert placed is not None, "the whole operands of a layer do not fit the activations"
        placed[names["output"]] = placed[under]
    places, dram = {}, 0
    for role in roles:
        operand, address = geometry.operand(role), placed[names[role]]
        if role in buffers:
            places[role] = Place(tuple(address + i * buffers[role] for i in range(tiling.buffers)), dram, streams=True)
        else:
            places[role] = Place((address,), dram if operand.packing else None)
        if places[role].dram is not None:
            word = config.beats(config.array.rows) * config.bus.data_bytes
            dram += geometry.words(operand) * operand.height * operand.width * word
    return places
