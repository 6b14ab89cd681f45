# SPDX-License-Identifier: Apache-2.0
"""Tilings among neighbours: what is best for a layer alone may keep the next one waiting.

The search times each layer by itself. Here the layers of a run are gone through in order, and for each its runners-up
are timed by the cycle model between the layer before and the one behind it, which is where tilings meet: the next layer
begins as soon as what it reads first has been written.
"""

from collections.abc import Sequence
from dataclasses import replace

from tilewright_hdl.config import AcceleratorConfig
from tilewright_sim.cycle_model import simulate

from .allocate_run import RunPlan
from .emit import Constants, Emitter
from .lower_layers import DeviceLayer
from .tiling import Geometry, Tiling
from .tiling_search import Choice, ordered

__all__ = ["refine"]

MOST_INSTRUCTIONS = 150
"""Of three neighbouring layers; what happens between layers with more means little, and takes long to time."""
REACH = 1


def refine(
    config: AcceleratorConfig, layers: Sequence[DeviceLayer], plan: RunPlan, *, weights_stay: bool
) -> RunPlan:
    """A plan with better tilings of the layers that do not stream; everything stays where it is.

    ``weights_stay``: the weights of all layers are on chip before the run.
    """
    return _Refiner(config, layers, plan, weights_stay).refined()


class _Refiner:
    def __init__(
        self, config: AcceleratorConfig, layers: Sequence[DeviceLayer], plan: RunPlan, weights_stay: bool
    ):
        self._config = config
        self._layers = layers
        self._plan = plan
        self._weights_stay = weights_stay
        self._tilings = [choice.tiling for choice in plan.choices]

    def refined(self) -> RunPlan:
        for number, choice in enumerate(self._plan.choices):
            if not any(place.streams for place in self._plan.places[number].values()):
                self._refine(number, choice)
        choices = [replace(choice, tiling=tiling)
                   for choice, tiling in zip(self._plan.choices, self._tilings, strict=True)]
        return replace(self._plan, choices=choices)

    def _refine(self, number: int, choice: Choice) -> None:
        """Take the tiling of a layer with which it and its neighbours need the fewest cycles."""
        best = self._cycles(number, choice.tiling)
        if best is None:
            return
        for tiling in self._runners_up(number, choice):
            cycles = self._cycles(number, tiling)
            if cycles is not None and cycles < best:
                best, self._tilings[number] = cycles, tiling

    def _runners_up(self, number: int, choice: Choice) -> list[Tiling]:
        """Other tilings of a layer, the best first."""
        apart = _last_words_apart(Geometry(self._config, self._layers[number]), choice.tiling)
        return [*apart, *choice.runners_up]

    def _cycles(self, number: int, tiling: Tiling) -> int | None:
        """Cycles of a layer with a tiling, with its neighbours; ``None`` if there are too many instructions."""
        low, high = max(0, number - REACH), min(len(self._layers), number + REACH + 1)
        emitter = Emitter(self._config, Constants(self._config, sizes_only=True), weights_on_chip=self._weights_stay)
        if low == 0:
            emitter.loaded = dict.fromkeys(self._plan.from_memory, 0)
        for k in range(low, high):
            chosen = tiling if k == number else self._tilings[k]
            emitter.layer(k, self._layers[k], chosen, self._plan.places[k])
            if len(emitter.emitted) > MOST_INSTRUCTIONS:
                return None
        return simulate(self._config, ordered(self._config, [e.instruction for e in emitter.emitted])[0]).cycles


def _last_words_apart(geometry: Geometry, tiling: Tiling) -> list[Tiling]:
    """A tiling whose instructions take the last words of a pixel by themselves: one, two, or half of them.

    So a 1 x 1 convolution may begin while the layer before still writes the last of its channels.
    """
    layer = geometry.layer
    words = geometry.words(layer.source)
    if layer.conv is None or layer.conv.kernel != (1, 1) or geometry.own_words:
        return []
    limits = dict.fromkeys(first * geometry.pass_words for first in (words - 1, words - 2, words // 2) if first > 0)
    return [replace(tiling, weight_words=limit) for limit in limits if limit <= tiling.weight_words]
