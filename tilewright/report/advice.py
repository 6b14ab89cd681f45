# SPDX-License-Identifier: Apache-2.0
"""What to change to go faster: sentences that the figures alone decide on, each with the cycles at stake."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .figures import Figures, LayerFigures
from .markup import kib, number
from .transfers import Cause

__all__ = ["Advice", "advice"]

LEAST_SHARE = 0.002
"""Share of all cycles below which nothing is worth a sentence."""

_NAMED = 3
_EMPTY = 0.98
"""A row or column counts as idle where less than this share of the passes has a weight in it."""


@dataclass(frozen=True)
class Advice:
    """Members: cycles of an inference that the change could save at most; what costs them; and what to do about it."""

    cycles: float
    finding: str
    change: str


def advice(figures: Figures) -> list[Advice]:
    """All that is worth changing, most cycles first."""
    rules: tuple[Callable[[Figures], Iterator[Advice]], ...] = (
        _unfilled, _weights, _operands, _array_drains, _constants, _inputs, _streamed, _results, _post_layers, _stores,
        _code,
    )
    found = [item for rule in rules for item in rule(figures) if item.cycles > 0
             and item.cycles >= LEAST_SHARE * figures.cycles]
    return sorted(found, key=lambda item: -item.cycles)


def _most(layers: Iterable[LayerFigures], cycles: Callable[[LayerFigures], float]) -> str:
    """The layers that a sum of cycles is made of, in words."""
    counted = [(cycles(layer), layer.name) for layer in layers]
    parts = sorted((item for item in counted if item[0] >= 1), key=lambda item: -item[0])
    named = [f"{name} ({number(count)})" for count, name in parts[:_NAMED]]
    rest = len(parts) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest > 0 else "")


def _unfilled(figures: Figures) -> Iterator[Advice]:
    """PEs without a product: in layers whose channels meet only their own weights, and in those of odd sizes."""
    array, windows = figures.config.array, figures.config.bus.windows
    layers = [layer for layer in figures.layers if layer.passes]
    filters = [layer for layer in layers if layer.depthwise]
    grouped = [layer for layer in layers if not layer.depthwise and layer.pes < layer.rows * layer.columns
               / layer.passes / 2]
    yield from _filters(figures, filters)
    yield Advice(
        sum(layer.unfilled for layer in grouped),
        f"Channels meet only their own weights, so most of the {array.pes} PEs multiply by 0, in "
        f"{_most(grouped, lambda layer: layer.unfilled)}.",
        "Fewer groups in the network; and depthwise layers can run with columns as filters"
        + ("." if array.depthwise else ", which needs array.depthwise."))
    for layer in layers:
        rows, columns = layer.rows / layer.passes, layer.columns / layer.passes
        if layer.depthwise or layer in grouped:
            continue
        if rows < _EMPTY * array.rows:
            more = f" and {columns:.1f} of {array.columns} columns" if columns < _EMPTY * array.columns else ""
            pack = "; or its image, packed into full rows by LOAD's windows" if layer.loaded else ""
            yield Advice(
                layer.unfilled, f"{layer.name} fills {rows:.1f} of {array.rows} rows of the array{more}.",
                "Its image is packed as far as windows of its kernel go: a kernel or a number of channels with which "
                f"they come closer to a multiple of {array.rows}." if layer.packed else
                f"Input channels in multiples of {array.rows}{pack}"
                + (", which need bus.windows." if pack and not windows else "."))
        elif columns < _EMPTY * array.columns:
            yield Advice(
                layer.unfilled, f"{layer.name} fills {columns:.1f} of {array.columns} columns of the array.",
                f"Output channels in multiples of {array.columns}.")


def _filters(figures: Figures, layers: list[LayerFigures]) -> Iterator[Advice]:
    """Layers in which columns are filters."""
    rows = figures.config.array.rows

    def discarded(layer: LayerFigures) -> float:
        return min(layer.discarded, layer.unfilled)

    yield Advice(
        sum(map(discarded, layers)),
        f"Columns that are filters take all pixels, and a stride passes over some of them, in "
        f"{_most(layers, discarded)}.", "A stride of 1 in these layers, with the stride in a layer around them.")
    yield Advice(
        sum(layer.unfilled - discarded(layer) for layer in layers),
        f"Columns that are filters hold the weights of one row of a kernel, so that most of {rows} rows only pass "
        f"sums on, in {_most(layers, lambda layer: layer.unfilled - discarded(layer))}.",
        f"Wider kernels, or an array of fewer rows than {rows} and more columns.")


def _lost(figures: Figures, cause: Cause) -> tuple[int, str]:
    """Cycles of a cause, and which layers they are made of."""
    return figures.lost(cause), _most(figures.layers, lambda layer: layer.lost[cause])


def _weights(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.WEIGHTS)
    yield Advice(
        cycles, f"Weights take up to {figures.config.array.rows} cycles to enter the array, longer than the vectors "
        f"before them last, in {layers}.",
        "Layers of few pixels are bound by their weights, not by products: an array of fewer rows and more columns, "
        "several images at once, or larger tiles where the outputs have more pixels.")


def _operands(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.OPERANDS)
    yield Advice(
        cycles, f"EXEC has to let other engines use the activation scratchpad first, in {layers}.",
        f"It has {figures.config.memory.activation_banks} banks (memory.activation_banks); in more of them, tensors "
        "lie apart.")


def _array_drains(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.DRAIN)
    execs = sum(layer.execs for layer in figures.layers)
    yield Advice(
        cycles, f"The array drains before something else can start, in {layers}.",
        f"Larger tiles, so fewer EXECs than {number(execs)}: a bank of accumulators has "
        f"{number(figures.config.memory.accumulator_entries)} entries.")


def _constants(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.CONSTANTS)
    config, size = figures.config, len(figures.program.constants)
    loaded = sum(layer.constants for layer in figures.layers)
    room = config.memory.weight_bytes
    if size <= room:
        change = (f"All constants are {kib(size)}, and the weight scratchpad holds {kib(room)}: kept there between "
                  "inferences, they need no load.")
    else:
        change = (f"An inference loads {kib(loaded)} of constants; the weight scratchpad holds {kib(room)}. A larger "
                  f"one keeps more of them, and a bus wider than {config.bus.data_bits} bits brings them sooner.")
    yield Advice(cycles, f"The array waits for weights and parameters of {layers}.", change)


def _inputs(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.INPUT)
    loaded = sum(layer.loaded for layer in figures.layers)
    yield Advice(cycles, f"The array waits for inputs from main memory, of {layers}.",
                 f"{kib(loaded)} of activations are loaded. A bus wider than {figures.config.bus.data_bits} bits, or "
                 "smaller first tiles, so that the first EXEC starts sooner.")


def _streamed(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.STREAMED)
    yield Advice(cycles, f"The array waits for activations that did not stay on chip, of {layers}.",
                 f"The activation scratchpad of {kib(figures.config.memory.activation_bytes)} is too small for them: a "
                 f"larger one, or a bus wider than {figures.config.bus.data_bits} bits.")


def _results(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.RESULTS)
    config = figures.config
    if config.post.lanes < config.array.columns:
        change = (f"post.lanes is {config.post.lanes} for {config.array.columns} columns: as many lanes as columns "
                  "empty an entry of the accumulators in a cycle.")
    else:
        change = ("Smaller last tiles, or layers that need not wait for all of the one before: what follows a layer "
                  "starts when its last tile is there.")
    yield Advice(cycles, f"The array waits until results have left the accumulators, in {layers}.", change)


def _post_layers(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.POST)
    config = figures.config
    most = min(config.array.rows, config.array.columns)
    lanes = f"post.lanes of {most} instead of {config.post.lanes}, or " if config.post.lanes < most else ""
    yield Advice(cycles, f"The array waits for layers that only the post-processor works on: {layers}.",
                 f"For these, {lanes}a network in which they follow one convolution that nothing else reads, so that "
                 "they ride on its way out of the accumulators.")


def _stores(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.STORE)
    yield Advice(cycles, f"The array waits for stores of {layers}.",
                 f"A bus wider than {figures.config.bus.data_bits} bits, more of bus.outstanding "
                 f"({figures.config.bus.outstanding}), or an activation scratchpad that keeps what is read again.")


def _code(figures: Figures) -> Iterator[Advice]:
    cycles, layers = _lost(figures, Cause.FETCH)
    yield Advice(cycles, f"The array waits for code, in {layers}.",
                 f"Longer queues than queue_instructions = {figures.config.queue_instructions}, or fewer and larger "
                 "tiles. The first instruction always takes the latency of main memory.")
