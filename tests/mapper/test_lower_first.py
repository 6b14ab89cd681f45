# SPDX-License-Identifier: Apache-2.0
"""First layers of few channels: every packed form equals the golden reference, and the cheapest one is taken."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tests.mapper.test_pipeline import check
from tilewright_hdl.bus_timing import load_cycles
from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.isa import Exec, Load
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper import lower_first
from tilewright_mapper.emit_windows import packing_cycles, window_loads
from tilewright_mapper.graph import image_shape, spatial_shape
from tilewright_mapper.layout import Piece, Rect, Region
from tilewright_mapper.lower import trim_ends
from tilewright_mapper.lower_first import pack_first_layer
from tilewright_mapper.lower_fuse import alias_roots, lower_phase
from tilewright_mapper.lower_layers import DeviceLayer
from tilewright_mapper.schedule import instruction_cycles
from tilewright_mapper.tiling_search import search

EDGE16 = PRESETS["edge16"]
CONFIGS = (
    *PRESETS.values(),
    # Beats longer than a word, and shorter ones; memories in which next to nothing stays on chip.
    config(8, 4, 4, activation_words=512, weight_words=128, entries=64, groups=8, bus=256),
    config(12, 8, 4, activation_words=512, weight_words=64, entries=32, bus=32, groups=16),
)


def loads(program: Program) -> list[Load]:
    """Those that pack windows."""
    return [i for step in program.steps if isinstance(step, RunStep) for i in step.instructions
            if isinstance(i, Load) and i.window]


def lowered(net: Net, output: str, cfg: AcceleratorConfig = EDGE16) -> DeviceLayer:
    """The first layer, packed where that is worth it."""
    graph = trim_ends(net.graph(output))
    layers = lower_phase(graph, graph.nodes, cfg, kept=(output,), roots=alias_roots(graph, graph.nodes))
    return pack_first_layer(cfg, layers[0], {"input"})


def prefer(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """Take the form with about so many kernel rows in a group, whatever it costs."""
    def cycles(_: AcceleratorConfig, layer: DeviceLayer) -> tuple[bool, int]:
        packing = layer.source.packing
        return packing is None, abs(packing.together - together) if packing else 0

    monkeypatch.setattr(lower_first, "_cycles", cycles)


# --- Bits.


@st.composite
def first_layers(draw: st.DrawFn) -> tuple[Net, str]:
    net = Net((draw(st.integers(1, 5)), draw(st.integers(1, 13)), draw(st.integers(1, 15))), draw(st.integers(0, 999)))
    kernel = draw(st.one_of(st.tuples(st.integers(1, 7), st.integers(1, 7)), st.just((10, 4))))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = (draw(st.integers(1, 3)), 1 if kernel[1] > 1 else draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, kernel[i % 2])) for i in range(4))
    assume(min(spatial_shape(net.shape("input")[1:], kernel, stride, padding, dilation)) >= 1)
    x = net.conv("input", draw(st.integers(1, 20)), kernel, stride=stride, padding=padding, dilation=dilation,
                 wide=draw(st.booleans()))
    if draw(st.booleans()) and min(net.shape(x)[1:]) > 1:
        x = net.max_pool(x, (2, 2), (2, 2))
    return net, x


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.name)
@settings(max_examples=12)
@given(case=first_layers(), together=st.integers(1, 10))
def test_every_form_equals_the_reference(cfg: AcceleratorConfig, case: tuple[Net, str], together: int) -> None:
    net, output = case
    with pytest.MonkeyPatch.context() as monkeypatch:
        prefer(monkeypatch, together)
        program = check(net, net.graph(output), cfg)
    assert bool(loads(program)) == program.tensors["input"].rows
    # Not packed: as many channels as rows, a form that the smallest memories do not hold, nothing but padding.
    assume(program.tensors["input"].rows)


@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_an_image_that_streams_is_packed_tile_by_tile(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """Tiles are parts of rows: each reads what it needs of a row, from the beat on in which that begins."""
    prefer(monkeypatch, together)
    cfg = config(8, 8, 4, activation_words=128, weight_words=128, entries=16, bus=32)
    net = Net((3, 21, 33))
    program = check(net, net.graph(net.conv("input", 8, (5, 3), stride=(2, 1), padding=(2, 1, 2, 1))), cfg)
    assert program.tensors["input"].rows
    assert len({load.row_bytes for load in loads(program)}) > 2
    assert max(load.row_bytes for load in loads(program)) < 3 * 33


@pytest.mark.parametrize(("shape", "kernel"), [((3, 1, 20), (1, 3)), ((2, 1, 20), (1, 5)), ((20, 3), (1, 3))])
def test_lines_and_tokens(shape: tuple[int, ...], kernel: tuple[int, int]) -> None:
    net = Net(shape)
    program = check(net, net.graph(net.conv("input", 7, kernel, padding=(0, 0, 0, 0))), EDGE16)
    assert program.tensors["input"].rows


def test_an_image_that_the_host_makes() -> None:
    net = Net((3, 9, 9))
    image = net.host("input", "aten.sigmoid.default")
    program = check(net, net.graph(net.conv(image, 8, (3, 3))), EDGE16)
    assert program.tensors[image].rows
    assert not program.tensors["input"].rows


# --- What is not packed.


def _read_twice(net: Net) -> list[str]:
    return [net.conv("input", 8, (3, 3)), net.conv("input", 8, (3, 3))]


def _read_by_another_engine(net: Net) -> list[str]:
    return [net.conv("input", 8, (3, 3)), net.table("input")]


def _an_output_as_well(net: Net) -> list[str]:
    return [net.conv("input", 8, (3, 3)), "input"]


def _made_on_chip(net: Net) -> list[str]:
    return [net.conv(net.table("input"), 8, (3, 3))]


def _holes_across(net: Net) -> list[str]:
    return [net.conv("input", 8, (3, 3), dilation=(1, 2))]


def _groups(net: Net) -> list[str]:
    return [net.conv("input", 6, (3, 3), groups=3)]


def _under_another_shape(net: Net) -> list[str]:
    return [net.conv(net.reshape("input", (3, 12, 3)), 8, (3, 3))]


@pytest.mark.parametrize("case", [
    _read_twice, _read_by_another_engine, _an_output_as_well, _made_on_chip,
    _holes_across, _groups, _under_another_shape,
])
def test_other_images_stay_words(case: Any) -> None:
    net = Net((3, 6, 6))
    program = check(net, net.graph(*case(net)), EDGE16)
    assert not any(tensor.rows for tensor in program.tensors.values())
    assert not loads(program)


def test_hardware_without_windows_packs_nothing() -> None:
    cfg = replace(EDGE16, bus=replace(EDGE16.bus, windows=False))
    net = Net((3, 9, 9))
    assert not loads(check(net, net.graph(net.conv("input", 8, (3, 3))), cfg))


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), [
    ((3, 3, 21_846), (3, 3), (1, 3), (0, 0, 0, 0)),
    ((3, 3, 300), (3, 3), (1, 86), (0, 0, 0, 0)),
    ((3, 3, 9), (3, 11_000), (1, 1), (0, 10_995, 0, 10_995)),
    ((3, 3, 1500), (3, 1400), (1, 1), (0, 0, 0, 0)),
], ids=["row_bytes", "row_step", "row_start", "step"])
def test_numbers_beyond_the_fields_of_load(
    shape: tuple[int, int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Any
) -> None:
    net = Net(shape)
    assert lowered(net, net.conv("input", 4, kernel, stride=stride, padding=padding)).source.packing is None


# --- What is chosen, and what it costs.


@pytest.mark.parametrize(("shape", "channels", "kernel", "stride", "padding", "together", "passes"), [
    ((3, 32, 32), 16, (3, 3), (1, 1), (1, 1, 1, 1), 1, 3),
    ((1, 49, 10), 64, (10, 4), (2, 2), (4, 1, 5, 1), 4, 3),
    ((3, 224, 224), 64, (7, 7), (2, 2), (3, 3, 3, 3), 7, 10),
], ids=["resnet8", "dscnn", "resnet18"])
def test_forms_of_known_networks(
    shape: Any, channels: int, kernel: Any, stride: Any, padding: Any, together: int, passes: int
) -> None:
    """Where EXEC is the bottleneck, all that LOAD has the time for is packed together."""
    net = Net(shape)
    layer = lowered(net, net.conv("input", channels, kernel, stride=stride, padding=padding))
    packing, conv = layer.source.packing, layer.conv
    assert packing is not None
    assert conv is not None
    assert packing.together == together
    assert conv.kernel[0] * packing.words(EDGE16) == passes
    assert layer.macs == channels * np.prod(image_shape(shape)[:1] + kernel) * layer.middle.height * layer.middle.width


def test_a_form_of_which_no_pixel_fits_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output pixel reads 60 words, packed by two rows 59 times 2, by three 58 times 3."""
    prefer(monkeypatch, 3)
    net = Net((7, 64, 3))
    layer = lowered(net, net.conv("input", 8, (60, 1)), config(8, 8, 8, activation_words=128))
    assert layer.source.packing is not None
    assert layer.source.packing.together == 2


def test_the_search_counts_the_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which a layer has more than of computing, if all its kernel rows go together."""
    prefer(monkeypatch, 3)
    net = Net((3, 16, 16))
    layer = lowered(net, net.conv("input", 16, (3, 3), padding=(1, 1, 1, 1)))
    choice = search(EDGE16, layer, frozenset(), EDGE16.activation_words)
    assert choice is not None
    # Two words of two parts each, of 16 rows of 16 windows, two cycles a row beside them.
    assert choice.cycles > 4 * 16 * 18 > 2 * (2 * 16 * 16)


def test_layers_of_other_windows_do_not_share_a_search() -> None:
    layers = []
    for kernel in (2, 3):
        net = Net((3, 9, 8 + kernel))
        layers.append(lowered(net, net.conv("input", 16, (3, kernel))))
    a, b = layers
    assert (a.source.width, a.source.channels) == (b.source.width, b.source.channels) == (9, 16)
    assert a.shape_key != b.shape_key


def test_packing_makes_a_layer_faster_and_its_traffic_small() -> None:
    net = Net((3, 32, 32))
    graph = net.graph(net.conv("input", 16, (3, 3), padding=(1, 1, 1, 1)))
    packed = check(net, graph, EDGE16)
    plain = check(net, graph, replace(EDGE16, bus=replace(EDGE16.bus, windows=False)))
    assert packed.macs == plain.macs == 27 * 16 * 32 * 32
    assert plain.predicted_cycles > 9 * 1024
    # Three passes, and the ends of the program: the first rows, the last tile's POST and STORE.
    assert packed.predicted_cycles < 3 * 1024 + 1100
    traffic = [program.report["steps"][0]["layers"][0]["bytes"]["loaded"] for program in (packed, plain)]
    assert traffic == [32 * 96, 32 * 32 * 16]
    assert packed.report["steps"][0]["traffic"]["tensors"] == 32 * (96 + 32 * 16)
    assert (packed.arena_bytes, plain.arena_bytes) == (32 * (96 + 32 * 16), 32 * 32 * 32)


def test_loads_come_bit_by_bit() -> None:
    """EXEC begins as soon as the rows of its first tile are there."""
    net = Net((3, 32, 32))
    (step,) = check(net, net.graph(net.conv("input", 16, (3, 3), padding=(1, 1, 1, 1))), EDGE16).steps
    assert isinstance(step, RunStep)
    order = [type(i) for i in step.instructions if isinstance(i, Exec) or (isinstance(i, Load) and i.window)]
    assert order.index(Exec) < len(order) - 1 - order[::-1].index(Load)


@pytest.mark.parametrize("cfg", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize(("shape", "kernel", "stride"), [
    ((3, 32, 32), (3, 3), 1), ((1, 49, 10), (10, 4), 2), ((3, 24, 224), (7, 7), 2), ((2, 40, 40), (5, 5), 3),
])
def test_rough_cycles_of_windows(
    cfg: AcceleratorConfig, shape: tuple[int, int, int], kernel: tuple[int, int], stride: int
) -> None:
    """Near those of the engine, less what the first beat takes to come."""
    net = Net(shape)
    layer = lowered(net, net.conv("input", 16, kernel, stride=(stride, stride)), cfg)
    packing, source = layer.source.packing, layer.source
    assert packing is not None
    rect = Rect(0, 0, source.height, source.width)
    found = list(window_loads(cfg, packing, 0, Region.of(0, Piece(rect, 0, packing.words(cfg))), rect))
    exact = sum(load_cycles(cfg, load, latency=32) - 34 for load in found)
    rough = sum(instruction_cycles(cfg, load) for load in found)
    assert exact == pytest.approx(rough, rel=0.25)
    assert rough == pytest.approx(packing_cycles(cfg, packing, source.height, source.width), rel=0.1)
