# SPDX-License-Identifier: Apache-2.0
"""Layers that are too large for a configuration, however they are cut."""

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError

from .lower_layers import DeviceLayer
from .tiling import Geometry, Tiling, candidates, smallest_tiling

__all__ = ["misfit", "refusal"]


def misfit(config: AcceleratorConfig, layer: DeviceLayer) -> ModelError | None:
    """What is too small for a layer that has the whole accelerator for itself; ``None`` if nothing is."""
    roots = frozenset(operand.root for operand in (*layer.operands, layer.output))
    fits = candidates(Geometry(config, layer), roots, config.activation_words)
    return None if fits else refusal(config, layer)


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
