# SPDX-License-Identifier: Apache-2.0
"""What the mapper tells people: tilings, the memory map, traffic, and what runs on the host and why. Plain data."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tilewright_hdl.bus_timing import transfer_row_beats
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Segment, Store

from .allocate_run import RunPlan
from .emit import Emitted
from .lower_layers import DeviceLayer
from .tiling_search import Choice

__all__ = ["host_report", "run_report"]

_LOADED = {Segment.CONSTANT: "constants", Segment.ARENA: "loaded"}


def run_report(
    config: AcceleratorConfig,
    layers: Sequence[DeviceLayer],
    plan: RunPlan,
    emitted: Sequence[Emitted],
    *,
    first_layer: int,
) -> dict[str, Any]:
    """Report of one run; ``first_layer`` is the number of its first layer in the program."""
    traffic = _traffic(config, emitted)
    return {
        "kind": "run",
        "layers": [
            _layer_report(first_layer + i, layer, choice, traffic.get(i, {}))
            for i, (layer, choice) in enumerate(zip(layers, plan.choices, strict=True))
        ],
        "activation_words": config.activation_words,
        "memory_map": [
            {"name": block.name, "address": at, "words": block.words,
             "first_layer": first_layer + block.first, "last_layer": first_layer + block.last}
            for block, at in sorted(plan.memory_map, key=lambda item: (item[0].first, item[1]))
        ],
        "weights_stay": _constants_stay(emitted),
    }


def host_report(layer: int, reason: str) -> dict[str, Any]:
    """Report of one step on the host."""
    return {"kind": "host", "layer": layer, "reason": reason}


def _layer_report(number: int, layer: DeviceLayer, choice: Choice, traffic: dict[str, int]) -> dict[str, Any]:
    tiling = choice.tiling
    return {
        "layer": number,
        "name": layer.name,
        "nodes": list(layer.nodes),
        "tile": {"height": tiling.height, "width": tiling.width, "channels": tiling.channels,
                 "order": "channels outer" if tiling.channels_outer else "channels inner"},
        "cycles_alone": choice.cycles,
        "first_fit_cycles": choice.first_fit_cycles,
        "bytes": {"constants": 0, "loaded": 0, "stored": 0} | traffic,
    }


def _traffic(config: AcceleratorConfig, emitted: Sequence[Emitted]) -> dict[int, dict[str, int]]:
    """Bytes that each layer moves on the bus, whole beats."""
    result: dict[int, dict[str, int]] = {}
    for item in emitted:
        ins = item.instruction
        if isinstance(ins, Load | Store):
            kind = "stored" if isinstance(ins, Store) else _LOADED[Segment(ins.segment)]
            beats = ins.rows * transfer_row_beats(config, ins)
            layer = result.setdefault(item.layer, {})
            layer[kind] = layer.get(kind, 0) + beats * config.bus.data_bytes
    return result


def _constants_stay(emitted: Sequence[Emitted]) -> bool:
    """Whether no constant is overwritten on chip by another, so that a second run could do without the loads."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for item in emitted:
        ins = item.instruction
        if item.constant and isinstance(ins, Load):
            spans.setdefault(ins.memory, []).append((ins.address, ins.address + ins.words))
    for ranges in spans.values():
        ordered = sorted(ranges)
        if any(a[1] > b[0] for a, b in pairwise(ordered)):
            return False
    return True
