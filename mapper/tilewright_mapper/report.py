# SPDX-License-Identifier: Apache-2.0
"""What the mapper tells people: tilings, the memory map, traffic, and what runs on the host and why. Plain data."""

from collections.abc import Sequence
from typing import Any

from tilewright_hdl.bus_timing import memory_sizes, transfer_row_beats
from tilewright_hdl.config import TABLE_ENTRIES, AcceleratorConfig
from tilewright_hdl.isa import Load, Memory, Segment, Store

from .allocate_run import RunPlan
from .emit import Emitted
from .lower_layers import DeviceLayer
from .residency import Residency, Use, constant_capacity
from .tiling_search import Choice

__all__ = ["host_report", "program_report", "run_report"]

_LOADED = {Segment.CONSTANT: "constants", Segment.ARENA: "loaded"}


def run_report(
    config: AcceleratorConfig,
    layers: Sequence[DeviceLayer],
    plan: RunPlan,
    emitted: Sequence[Emitted],
    *,
    first_layer: int,
    tensor_bytes: int,
    uses: Sequence[Use],
) -> dict[str, Any]:
    """Report of one run.

    Parameters
    ----------
    first_layer : int
        Number of its first layer in the program.
    tensor_bytes : int
        Of its inputs and outputs in main memory.
    uses : sequence of Use
        Constants that it reads.
    """
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
        "weights_stay": not any(item.constant for item in emitted),
        "traffic": {"modelled": sum(sum(kinds.values()) for kinds in traffic.values()), "tensors": tensor_bytes,
                    "compulsory": tensor_bytes + _excess_bytes(config, uses)},
    }


def program_report(
    config: AcceleratorConfig, steps: Sequence[dict[str, Any]], residency: Residency, uses: Sequence[Use]
) -> dict[str, Any]:
    """Report of a whole program: of its steps, of what the memories for constants hold, and of one inference's bytes.

    ``compulsory`` are the bytes that no program can do without: inputs and outputs of each run once, and constants as
    far as all of them together are larger than the chip.
    """
    runs = [step["traffic"] for step in steps if step["kind"] == "run"]
    shares = {memory: residency.share(memory) for memory in constant_capacity(config)}
    return {
        "steps": list(steps),
        "constants": {
            memory.name.lower(): {"words": words, "stay": shares[memory].words, "stream": shares[memory].streamed,
                                  "loaded": shares[memory].loaded}
            for memory, words in constant_capacity(config).items()
        },
        "traffic": {"modelled": sum(run["modelled"] for run in runs),
                    "compulsory": sum(run["tensors"] for run in runs) + _excess_bytes(config, uses)},
    }


def _excess_bytes(config: AcceleratorConfig, uses: Sequence[Use]) -> int:
    """Bytes of constants in main memory that cannot have been on chip before, since not all fit."""
    sizes = {(use.memory, use.key): use.words for use in uses}
    excess = 0
    for memory, room in constant_capacity(config).items():
        words = sum(n for (where, _), n in sizes.items() if where is memory) - room
        beats = config.beats(TABLE_ENTRIES if memory is Memory.TABLE else memory_sizes(config)[memory][1])
        excess += max(0, words) * beats * config.bus.data_bytes
    return excess


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
