# SPDX-License-Identifier: Apache-2.0
"""The numbers of the report: every cycle counted once, and the sentences that follow from them."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import tilewright as tw
from tests.mapper.bench import config
from tilewright.report.advice import advice
from tilewright.report.figures import Figures, figures_of
from tilewright.report.mapped import mapped
from tilewright.report.transfers import Cause
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ProgramError

from .conftest import Files, Small


def plain(accelerator: AcceleratorConfig) -> AcceleratorConfig:
    """An accelerator on which layers run as they are: no packed images, no columns as filters."""
    return dataclasses.replace(accelerator, array=dataclasses.replace(accelerator.array, depthwise=False),
                               bus=dataclasses.replace(accelerator.bus, windows=False))


def programs(small: Files, with_host: Files) -> Iterator[tw.Program]:
    for files in (small, with_host):
        yield tw.Program.load(files.program)


def test_every_cycle_is_counted_once(small: Files, with_host: Files) -> None:
    for program in programs(small, with_host):
        figures = figures_of(program)
        assert figures.cycles == program.predicted_cycles == sum(layer.cycles for layer in figures.layers) > 0
        lost = sum(layer.lost.total() for layer in figures.layers)
        assert sum(layer.useful + layer.unfilled for layer in figures.layers) + lost == pytest.approx(figures.cycles)
        assert lost == sum(sum(layer.stalls.values()) for layer in figures.layers)
        assert min(layer.unfilled for layer in figures.layers) >= 0
        # The same, in coarser causes and by the layer that a cycle belongs to.
        coarse = Counter[str]()
        for layer in figures.layers:
            coarse.update(layer.stalls)
        loads = sum(map(figures.lost, (Cause.CONSTANTS, Cause.INPUT, Cause.STREAMED)))
        assert (loads, figures.lost(Cause.RESULTS) + figures.lost(Cause.POST)) == (coarse["load"], coarse["post"])


@pytest.fixture(scope="module")
def narrow() -> tw.Program:
    """Of a network whose channels fit no array: 3, 5 and 6 on one of 4 x 4."""
    torch.manual_seed(0)
    quantized = tw.quantize(Small().eval(), [torch.randn(5, 3, 6, 6)])
    return tw.compile(quantized, config=plain(tw.load_config("nano4")), name="narrow")


def test_figures_are_those_of_the_network(narrow: tw.Program) -> None:
    program, figures = narrow, figures_of(narrow)
    conv1, _, classify = (layer for layer in figures.layers if layer.layer.on == "array")
    assert conv1.rows == 3 * conv1.passes and figures.config.array.rows == 4
    # 5 channels of results are a full column tile and one of a single column.
    assert conv1.columns == 2.5 * conv1.passes
    assert conv1.bound == 5 * 6 * 6 * 27 / 16
    assert figures.bound == program.macs / 16
    assert conv1.loaded == 6 * 6 * 4 and classify.stored == 4 and conv1.stored == 0
    by_mapper = Counter[str]()
    for layer in program.report["steps"][0]["layers"]:
        by_mapper.update(layer["bytes"])
    assert by_mapper == {"constants": sum(x.constants for x in figures.layers), "loaded": 6 * 6 * 4, "stored": 4}
    assert figures.traffic == sum(by_mapper.values())
    assert figures.resident == len(program.constants) - by_mapper["constants"]


class Wide(nn.Module):
    """A depthwise layer, a pool, and more activations than ``TIGHT`` holds."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.again = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.deep(x))
        y = torch.relu(self.point(x))
        return nn.functional.max_pool2d(self.again(y) + x, 2)


def wide(accelerator: AcceleratorConfig) -> tw.Program:
    torch.manual_seed(1)
    quantized = tw.quantize(Wide().eval(), [torch.randn(4, 8, 16, 16)])
    return tw.compile(quantized, config=plain(accelerator), name="wide")


@pytest.fixture(scope="module")
def tight() -> Figures:
    """A network that streams activations through a small scratchpad."""
    return figures_of(wide(config(8, 8, 4, activation_words=256)))


def test_what_streams_is_no_input(tight: Figures) -> None:
    assert sum(layer.stored for layer in tight.layers) > 8 * 8 * 8
    assert sum(layer.loaded for layer in tight.layers) > 16 * 16 * 8
    assert tight.lost(Cause.STREAMED) > 0 and tight.lost(Cause.INPUT) > 0


def test_advice_is_in_order_and_never_more_than_what_is_lost(tight: Figures, narrow: tw.Program) -> None:
    for figures in (tight, figures_of(narrow)):
        found = [item.cycles for item in advice(figures)]
        assert found == sorted(found, reverse=True)
        assert 0 < sum(found) <= figures.cycles - sum(layer.useful for layer in figures.layers) + 1e-6


def text(figures: Figures) -> str:
    return "\n".join(f"{item.finding} {item.change}" for item in advice(figures))


def test_advice_names_what_the_numbers_show(tight: Figures, narrow: tw.Program) -> None:
    assert ("conv1 fills 3.0 of 4 rows of the array and 2.5 of 4 columns. Input channels in multiples of 4; or its "
            "image, packed into full rows by LOAD's windows, which need bus.windows.") in text(figures_of(narrow))
    assert "meet only their own weights, so most of the 64 PEs multiply by 0, in deep" in text(tight)
    assert "The activation scratchpad of 2 KiB is too small" in text(tight)
    assert "post.lanes is 4 for 8 columns" in text(tight)
    roomy = text(figures_of(wide(config(8, 8, 8))))
    assert "post.lanes is" not in roomy and "too small" not in roomy


def test_filters_lose_to_strides_and_to_rows(tight: Figures) -> None:
    layer = dataclasses.replace(tight.layers[0], name="deep", depthwise=True, bound=100, vectors=800,
                                discarded=300, passes=1)
    found = {item.finding: item.cycles for item in advice(dataclasses.replace(tight, layers=[layer]))}
    assert [n for what, n in found.items() if "a stride passes over some of them, in deep (300)" in what] == [300]
    assert [n for what, n in found.items() if "one row of a kernel" in what and "deep (400)" in what] == [400]


def test_macs_beyond_all_bounds_are_refused(narrow: tw.Program) -> None:
    layers = (dataclasses.replace(narrow.layers[0], macs=10**400), *narrow.layers[1:])
    with pytest.raises(ProgramError, match="must have at most"):
        figures_of(dataclasses.replace(narrow, layers=layers))


def test_only_what_costs_much_is_worth_a_sentence(tight: Figures) -> None:
    layer = dataclasses.replace(tight.layers[0], cycles=10**9, vectors=10**9, bound=1e9,
                                lost=Counter({Cause.POST: 10**6}))
    run = dataclasses.replace(tight.runs[0], cycles=10**9 + 10**6)
    figures = dataclasses.replace(tight, layers=[layer], runs=[run])
    assert advice(figures) == []
    layer.lost[Cause.POST] *= 10
    assert [item.cycles for item in advice(figures)] == [10**7]


@pytest.mark.parametrize("change", [
    {"cycles_alone": -1}, {"cycles_alone": 1 << 63}, {"cycles_alone": True}, {"first_fit_cycles": "12"}, {"layer": 99},
    {"tile": None}, {"tile": {"height": 1, "width": 1, "channels": "x", "order": ""}},
])
def test_a_report_of_the_mapper_that_is_none_is_refused(small: Files, change: dict[str, object]) -> None:
    program = tw.Program.load(small.program)
    step = dict(program.report["steps"][0])
    step["layers"] = [dict(step["layers"][0]) | change]
    with pytest.raises(ProgramError, match="compile the model again"):
        mapped(dataclasses.replace(program, report={"steps": [step]}))


def test_the_mapper_s_compulsory_bytes_are_taken_over(narrow: tw.Program) -> None:
    found = mapped(dataclasses.replace(narrow, report={"steps": [], "traffic": {"modelled": 9, "compulsory": 5}}))
    assert (found.compulsory, found.chosen, found.blocks) == (5, {}, [])
    assert mapped(dataclasses.replace(narrow, report={})).compulsory is None


@pytest.mark.parametrize("report", [
    {"traffic": {"compulsory": -1}}, {"traffic": 3}, {"traffic": {}}, {"steps": 5}, {"steps": [1]},
    {"steps": [{"kind": "run"}]},
    {"steps": [{"kind": "run", "layers": [], "memory_map": [
        {"name": "x", "address": 0, "words": 1 << 40, "first_layer": 0, "last_layer": 0}]}]},
    {"steps": [{"kind": "run", "layers": [], "memory_map": [
        {"name": "x", "address": 0, "words": 1, "first_layer": -2, "last_layer": 0}]}]},
])
def test_a_memory_map_that_is_none_is_refused(small: Files, report: dict[str, object]) -> None:
    with pytest.raises(ProgramError, match="compile the model again"):
        mapped(dataclasses.replace(tw.Program.load(small.program), report=report))
