# SPDX-License-Identifier: Apache-2.0
"""Placing blocks with lifetimes, rings, and the choice of what stays on chip."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_mapper.allocate import BlockRequest, Ring, pack
from tilewright_mapper.allocate_run import Arena, RunPlan, plan_run
from tilewright_mapper.lower import trim_ends
from tilewright_mapper.lower_fuse import alias_roots, lower_phase
from tilewright_mapper.lower_layers import DeviceLayer


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12))
def test_blocks_that_live_at_the_same_time_do_not_overlap(cases: list[tuple[int, int, int]]) -> None:
    requests = [BlockRequest(str(i), w, a, a + n) for i, (w, a, n) in enumerate(cases)]
    placed = pack(128, requests)
    if placed is None:
        # Only where the room is short at some time, or broken into pieces that are.
        assert max(sum(r.words for r in requests if r.first <= t <= r.last) for t in range(9)) > 64
        return
    for request in requests:
        assert 0 <= placed[request.name] <= 128 - request.words
    for a, b in combinations(requests, 2):
        if a.first <= b.last and b.first <= a.last:
            x, y = placed[a.name], placed[b.name]
            assert x + a.words <= y or y + b.words <= x


def test_room_is_used_again_when_a_lifetime_ends() -> None:
    requests = [BlockRequest("a", 60, 0, 1), BlockRequest("b", 40, 1, 2), BlockRequest("c", 60, 2, 3)]
    assert pack(100, requests) == {"a": 0, "c": 0, "b": 60}


def test_no_room() -> None:
    assert pack(100, [BlockRequest("a", 60, 0, 1), BlockRequest("b", 60, 1, 2)]) is None


def test_blocks_go_to_banks_of_their_own_where_asked() -> None:
    requests = [BlockRequest("a", 10, 0, 0), BlockRequest("b", 10, 0, 0)]
    assert pack(64, requests) == {"a": 0, "b": 10}
    assert pack(64, requests, bank_words=16, apart={frozenset("ab"): 1}) == {"a": 0, "b": 16}


def test_room_matters_more_than_banks() -> None:
    requests = [BlockRequest("a", 30, 0, 0), BlockRequest("b", 20, 0, 0), BlockRequest("c", 14, 0, 0)]
    wishes = {frozenset("ab"): 1, frozenset("ac"): 1, frozenset("bc"): 1}
    placed = pack(64, requests, bank_words=16, apart=wishes)
    assert placed is not None
    assert sorted(placed.values()) == [0, 30, 50]


def test_a_ring_overwrites_the_oldest() -> None:
    ring = Ring(10)
    assert [ring.put(name, 4) for name in "abc"] == [0, 4, 0]
    assert ring.find("a") is None
    assert (ring.find("b"), ring.find("c")) == (4, 0)
    assert ring.items == {"b": (4, 4), "c": (0, 4)}
    with pytest.raises(ValueError, match="at most 10 words, not 11"):
        ring.put("d", 11)


def plan(net: Net, cfg: AcceleratorConfig, *outputs: str) -> tuple[list[DeviceLayer], RunPlan]:
    graph = trim_ends(net.graph(*outputs))
    layers = lower_phase(graph, graph.nodes, cfg, kept=outputs, roots=alias_roots(graph, graph.nodes))
    return layers, plan_run(cfg, layers, outputs, Arena(cfg))


def test_everything_stays_on_chip_if_it_fits() -> None:
    net = Net((8, 8, 8))
    x = net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1))
    y = net.conv(x, 8)
    _, found = plan(net, config(4, 4, 4, activation_words=1024), y)
    assert found.from_memory == {"input"}
    assert [p["output"].dram is None for p in found.places] == [True, False]
    assert not any(place.streams for places in found.places for place in places.values())


def test_the_tensor_that_is_cheapest_to_stream_is_streamed() -> None:
    """The input is loaded anyway and read once: it streams, and nothing else has to."""
    net = Net((8, 16, 16))
    x = net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1))
    y = net.max_pool(x, (2, 2), (2, 2))
    y = net.conv(y, 4)
    _, found = plan(net, config(4, 4, 4, activation_words=512), y)
    assert [p["source"].streams for p in found.places] == [True, False]
    assert found.places[0]["source"].dram is not None


def test_a_residual_addition_overwrites_its_operand() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    y = net.conv(x, 4, (3, 3), padding=(1, 1, 1, 1))
    y = net.conv(y, 4, (3, 3), padding=(1, 1, 1, 1))
    z = net.add(y, x)
    layers, found = plan(net, config(4, 4, 4), z)
    assert layers[2].op == "Conv2d+Add"
    assert found.places[2]["output"].addresses == found.places[2]["residual"].addresses


def test_a_convolution_that_adds_its_own_input_does_not_overwrite_it() -> None:
    """Other tiles still read around the pixels of this one."""
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    z = net.add(net.conv(x, 4, (3, 3), padding=(1, 1, 1, 1)), x)
    _, found = plan(net, config(4, 4, 4), z)
    assert found.places[1]["output"].addresses != found.places[1]["residual"].addresses


def test_a_layer_that_cannot_fit_is_refused_with_the_numbers() -> None:
    net = Net((300,))
    x = net.conv("input", 400)
    with pytest.raises(ModelError, match=r"(?s)Conv2d 'conv1' does not fit configuration 'test4x4'.*It needs "
                                         r"activations: 304 bytes .* of 256 \(memory.activation_bytes\)"):
        plan(net, config(4, 4, 4, activation_words=64), x)


def test_arena_keeps_one_place_for_each_tensor() -> None:
    net = Net((4, 3, 3))
    cfg = config(4, 4, 4, bus=64)
    layers, _ = plan(net, cfg, net.conv("input", 9))
    arena = Arena(cfg)
    layer = layers[0]
    assert [arena.place(layer.source), arena.place(layer.output), arena.place(layer.source)] == [0, 72, 0]
    assert (arena.size, arena.find("nothing")) == (72 + 9 * 3 * 8, None)
