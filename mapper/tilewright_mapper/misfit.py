# SPDX-License-Identifier: Apache-2.0
"""Layers that are too large for a configuration, however they are cut."""

from collections.abc import Sequence

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError

from .lower_layers import DeviceLayer
from .tiling import Geometry, Tiling, candidates, smallest_tiling

__all__ = ["check_size", "misfit", "oversize", "refusal"]

MOST_TILES = 1 << 14
"""Tiles that a layer may be cut into: tens of thousands of instructions, and minutes of compilation."""

MOST_TILES_TOGETHER = 1 << 16
"""Tiles of all layers of a run."""


def misfit(config: AcceleratorConfig, layer: DeviceLayer) -> ModelError | None:
    """What is too small for a layer that has the whole accelerator for itself; ``None`` if nothing is."""
    if (error := oversize(config, layer)) is not None:
        return error
    roots = frozenset(operand.root for operand in (*layer.operands, layer.output))
    fits = candidates(Geometry(config, layer), roots, config.activation_words)
    return None if fits else refusal(config, layer)


def oversize(config: AcceleratorConfig, layer: DeviceLayer) -> ModelError | None:
    """The error for a layer that would be cut into too many tiles; a small file may claim any size. ``None`` if not."""
    for (what, field), (need, room) in _needs(config, layer).items():
        if need > MOST_TILES * room:
            return ModelError(f"{layer.op} {layer.name!r} must be cut into at most {MOST_TILES} tiles, but has {need} "
                              f"{what}, and only {room} fit on configuration {config.name!r} at a time; enlarge "
                              f"{field}, or use a smaller input")
    return None


def check_size(config: AcceleratorConfig, layers: Sequence[DeviceLayer]) -> None:
    """Refuse layers that together, or one alone, would be cut into too many tiles.

    Raises
    ------
    ModelError
    """
    total = 0
    for layer in layers:
        if (error := oversize(config, layer)) is not None:
            raise error
        total += max(-(-need // room) for need, room in _needs(config, layer).values())
    if total > MOST_TILES_TOGETHER:
        raise ModelError(f"The network must be cut into at most {MOST_TILES_TOGETHER} tiles, but its {len(layers)} "
                         f"layers need {total} or more on configuration {config.name!r}; enlarge its memories, or use "
                         "a smaller input")


def _needs(config: AcceleratorConfig, layer: DeviceLayer) -> dict[tuple[str, str], tuple[int, int]]:
    """What a layer needs of each memory, and what that holds, by what it is and the setting that enlarges it."""
    geometry, middle = Geometry(config, layer), layer.middle
    sums = 0 if geometry.form is None else middle.height * middle.width * geometry.form.tiles(0, middle.channels)[1]
    words = max(operand.height * operand.width * geometry.words(operand) for operand in (*layer.operands, layer.output))
    return {
        ("sums", "memory.accumulator_entries"): (sums, config.memory.accumulator_entries),
        ("words of activations", "memory.activation_bytes"): (words, config.activation_words),
    }


def refusal(config: AcceleratorConfig, layer: DeviceLayer) -> ModelError:
    """The error for a layer of which not even the smallest tile fits, with what it needs."""
    geometry = Geometry(config, layer)
    tiling: Tiling = smallest_tiling(geometry)
    buffers = geometry.buffer_words(tiling, frozenset(o.root for o in (*layer.operands, layer.output)))
    bytes_needed = tiling.buffers * sum(buffers.values()) * config.array.rows
    need = [f"activations: {bytes_needed} bytes for the operands of its smallest tile, of "
            f"{config.memory.activation_bytes} (memory.activation_bytes)"]
    if layer.conv is not None:
        chunk = geometry.chunks(tiling.channels)[0]
        pixels = geometry.middle(geometry.rects(tiling)[0]).pixels
        need += [
            f"accumulators: {chunk.columns[1] * pixels} entries, of {config.memory.accumulator_entries} in a bank "
            "(memory.accumulator_entries)",
            f"parameters: {chunk.groups[1]} words, of {config.memory.parameter_groups} (memory.parameter_groups)",
        ]
    return ModelError(f"{layer.op} {layer.name!r} does not fit configuration {config.name!r}; enlarge what is "
                      f"exceeded. It needs " + "; ".join(need))
