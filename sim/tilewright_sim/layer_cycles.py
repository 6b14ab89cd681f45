# SPDX-License-Identifier: Apache-2.0
"""From the times of instructions to the cycles of layers.

Engines overlap, and so do neighbouring layers. A layer is charged for the time by which it moves the end of the run:
from the end of the last instruction of all layers before it to the end of its own last instruction. So the
cycles of all layers add up to those of the run.
"""

from collections.abc import Sequence

from tilewright_hdl.isa import Engine

from .machine import ProfileRecord

__all__ = ["STALL_CAUSES", "layer_cycles", "layer_stalls"]

STALL_CAUSES = {Engine.LOAD: "bus", Engine.EXEC: "operands", Engine.POST: "port", Engine.STORE: "bus"}
"""What the engines' stall cycles are due to; waiting for a token is ``"semaphore"`` on all of them."""


def layer_cycles(records: Sequence[ProfileRecord], layer_of: Sequence[int], total: int) -> dict[int, int]:
    """Cycles of each layer.

    Parameters
    ----------
    records : sequence of ProfileRecord
        Of one run, in any order.
    layer_of : sequence of int
        Layer of each instruction, by its index.
    total : int
        Cycles of the run; what comes after the last instruction's end is the last layer's.
    """
    ends: dict[int, int] = {}
    for record in records:
        layer = layer_of[record.index]
        ends[layer] = max(ends.get(layer, 0), record.end)
    cycles, reached = {}, 0
    order = sorted(ends)
    for layer in order:
        end = total if layer == order[-1] else ends[layer]
        cycles[layer] = max(0, end - reached)
        reached = max(reached, end)
    return cycles


def layer_stalls(records: Sequence[ProfileRecord], layer_of: Sequence[int]) -> dict[int, dict[str, int]]:
    """Cycles in which a layer's instructions waited, by cause; engines overlap, so they may exceed those of the run."""
    stalls: dict[int, dict[str, int]] = {}
    for record in records:
        causes = stalls.setdefault(layer_of[record.index], dict.fromkeys(("semaphore", *STALL_CAUSES.values()), 0))
        causes["semaphore"] += record.wait
        causes[STALL_CAUSES[record.engine]] += record.stall
    return stalls
