# SPDX-License-Identifier: Apache-2.0
"""Tilings among neighbours: fewer cycles of the whole, and nothing else changes."""

from dataclasses import replace

import pytest

from tests.mapper.bench import Net, config
from tests.mapper.test_allocate import plan
from tilewright_hdl.config import AcceleratorConfig
from tilewright_mapper import refine as module
from tilewright_mapper.allocate_run import RunPlan
from tilewright_mapper.emit import Constants, Emitter
from tilewright_mapper.lower_layers import DeviceLayer
from tilewright_mapper.refine import refine
from tilewright_mapper.tiling_search import ordered
from tilewright_sim.cycle_model import simulate

SMALL = config(4, 4, 4, activation_words=2048, weight_words=2048)


def cycles(cfg: AcceleratorConfig, layers: list[DeviceLayer], found: RunPlan) -> int:
    """Of the whole run, weights on chip."""
    emitter = Emitter(cfg, Constants(cfg, sizes_only=True), weights_on_chip=True)
    emitter.loaded = dict.fromkeys(found.from_memory, 0)
    for number, (layer, choice, places) in enumerate(zip(layers, found.choices, found.places, strict=True)):
        emitter.layer(number, layer, choice.tiling, places)
    return simulate(cfg, ordered(cfg, [e.instruction for e in emitter.emitted])[0]).cycles


def pointwise(channels: int) -> tuple[list[DeviceLayer], RunPlan]:
    """A chain of 1 x 1 convolutions, each of which reads all channels of the one before."""
    net = Net((channels, 3, 3))
    x = "input"
    for _ in range(4):
        x = net.conv(x, channels)
    return plan(net, SMALL, x)


def test_a_layer_begins_while_the_one_before_ends() -> None:
    layers, found = pointwise(32)
    better = refine(SMALL, layers, found, weights_stay=True)
    assert cycles(SMALL, layers, better) < cycles(SMALL, layers, found)
    # The last words of the eight of a pixel by themselves: tiles of four rows for the others.
    assert any(choice.tiling.weight_words in (28, 24, 16) for choice in better.choices)


def test_places_and_what_the_search_found_stay() -> None:
    layers, found = pointwise(16)
    better = refine(SMALL, layers, found, weights_stay=True)
    assert (better.places, better.memory_map) == (found.places, found.memory_map)
    assert [replace(choice, tiling=old.tiling) for choice, old in zip(better.choices, found.choices, strict=True)] == (
        found.choices)


def test_runners_up_are_others_that_fit() -> None:
    _, found = pointwise(16)
    for choice in found.choices:
        assert choice.runners_up
        assert choice.tiling not in choice.runners_up
        assert len(set(choice.runners_up)) == len(choice.runners_up)


def test_a_layer_that_streams_keeps_its_tiling() -> None:
    """Its buffers have the size of its tiles."""
    net = Net((8, 16, 16))
    x = net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1))
    y = net.conv(net.max_pool(x, (2, 2), (2, 2)), 4)
    cfg = config(4, 4, 4, activation_words=512)
    layers, found = plan(net, cfg, y)
    streams = [any(place.streams for place in places.values()) for places in found.places]
    assert streams == [True, False]
    slow = [replace(choice.tiling, height=1) for choice in found.choices]
    tempted = [replace(choice, tiling=tiling, runners_up=(choice.tiling,))
               for choice, tiling in zip(found.choices, slow, strict=True)]
    better = refine(cfg, layers, replace(found, choices=tempted), weights_stay=True)
    assert [choice.tiling == tiling for choice, tiling in zip(better.choices, slow, strict=True)] == streams


def test_long_neighbourhoods_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, found = pointwise(32)
    monkeypatch.setattr(module, "MOST_INSTRUCTIONS", 1)
    assert refine(SMALL, layers, found, weights_stay=True).choices == found.choices
