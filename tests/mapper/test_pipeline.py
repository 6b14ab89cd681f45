# SPDX-License-Identifier: Apache-2.0
"""Whole programs against the golden reference, on the instruction-set simulator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net, config, mixed_roundings, run_program
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.isa import Exec, Load, Memory
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import Graph, Padding, image_shape, spatial_shape
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.rounding import with_rounding

ROOMY = config(4, 4, 2)
CONFIGS = (
    ROOMY,
    config(4, 8, 4, entries=32),
    # Rows, columns and lanes that differ, and memories so small that all must stream.
    config(8, 4, 4, activation_words=256, weight_words=64, entries=16, groups=8),
    config(12, 8, 4, activation_words=256, weight_words=64, entries=32, bus=32, groups=16),
    config(8, 8, 8, activation_words=128, weight_words=32, entries=16, groups=4, semaphore_bits=2, tables=1),
    config(4, 6, 2, activation_words=128, weight_words=64, entries=16, groups=16, bus=128, banks=2, multiplier_bits=18),
)


def rounded(graph: Graph, rounding: Rounding | int) -> Graph:
    """The graph with one rule for all, or a mixture from a seed."""
    return with_rounding(graph, rounding) if isinstance(rounding, Rounding) else mixed_roundings(graph, rounding)


def check(net: Net, graph: Graph, cfg: AcceleratorConfig, rounding: Rounding | int = Rounding.SINGLE) -> Program:
    """Compile a graph, run it twice, and compare every output with the reference; ``rounding`` as in ``rounded``."""
    graph = rounded(graph, rounding)
    program = compile_graph(graph, cfg)
    image = net.image()
    found, result = run_program(program, {program.inputs[0]: image}, times=2)
    expected = reference_run(graph, image[None], bits=cfg.post.multiplier_bits)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name][0] if name != "input" else image, err_msg=name)
    if len(program.steps) == 1 and result is not None:
        assert program.predicted_cycles == result.cycles
    return program


def test_a_configuration_with_one_rule_uses_no_other() -> None:
    """Nor where all are the same: tables, borders, averages by small shifts."""
    cfg = replace(ROOMY, post=replace(ROOMY.post, roundings=(Rounding.TFLITE_DOUBLE,)))
    net = Net((4, 6, 6))
    x = net.table(net.pad(net.conv("input", 4), (1, 0, 0, 1)))
    program = check(net, net.graph(net.raw_pool(net.add(x, x), (3, 3), (1, 1))), cfg, Rounding.TFLITE_DOUBLE)
    assert program.roundings == (Rounding.TFLITE_DOUBLE,)
    assert not any(layer.reason for layer in program.layers)


# --- Random networks.


def roundings() -> st.SearchStrategy[Rounding | int]:
    """A rule of the hardware, or the seed of a mixture."""
    return st.one_of(st.sampled_from(HARDWARE_ROUNDINGS), st.integers(0, 999))


KINDS = (
    *("conv", "conv", "conv", "wide", "groups", "max", "avg", "raw", "table", "requantize", "reshape", "pad"),
    *("add", "subtract", "multiply", "broadcast", "concat"),
)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Net, Graph]:
    shape = draw(st.one_of(
        st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(1, 6), st.integers(8, 16), st.integers(8, 20)),
        st.tuples(st.integers(1, 30)),
        st.tuples(st.integers(1, 8), st.integers(1, 20)),
    ))
    net = Net(shape, draw(st.integers(0, 1000)))
    live = ["input"]
    for _ in range(draw(st.integers(1, 5))):
        node = _node(draw, net, live)
        if node is not None:
            live.append(node)
    assume(len(live) > 1)
    outputs = dict.fromkeys([live[-1], *draw(st.lists(st.sampled_from(live[1:]), max_size=1))])
    return net, net.graph(*outputs)


def _node(draw: st.DrawFn, net: Net, live: list[str]) -> str | None:
    x = draw(st.sampled_from(live[-2:]))
    shape = net.shape(x)
    channels, height, width = image_shape(shape)
    kind = draw(st.sampled_from(KINDS))
    match kind:
        case "add" | "subtract" | "multiply":
            other = draw(st.sampled_from([t for t in live if net.shape(t) == shape]))
            return getattr(net, kind)(other, x)
        case "broadcast":
            return broadcast(draw, net, x)
        case "concat":
            return concat(draw, net, x)
        case "pad":
            return net.pad(x, draw(paddings()), draw(st.sampled_from((None, -128, 3)))) if len(shape) == 3 else None
        case "table":
            return net.table(x)
        case "requantize":
            return net.requantize(x)
        case "reshape":
            return net.reshape(x, (channels, width, height)) if len(shape) == 3 else None
    rank = len(shape)
    axes = {1: (1, 1), 2: (1, 4), 3: (4, 4)}[rank]
    kernel = tuple(draw(st.integers(1, n)) for n in axes)
    stride = tuple(draw(st.integers(1, min(n, 3))) for n in axes)
    dilation = tuple(draw(st.integers(1, min(n, 2))) for n in axes) if kind not in ("avg", "raw") else (1, 1)
    padding = tuple(draw(st.integers(0, kernel[i % 2] // 2)) for i in range(4))
    if min(spatial_shape((height, width), kernel, stride, padding, dilation)) < 1:
        return None
    if kind == "max":
        return net.max_pool(x, kernel, stride, padding, dilation)
    if kind == "avg":
        return net.avg_pool(x, kernel, stride, padding)
    if kind == "raw":
        return net.raw_pool(x, kernel, stride, padding, **draw(averages()))
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0])) if kind == "groups" else 1
    outputs = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 24))
    return net.conv(x, outputs, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
                    low=draw(st.sampled_from((-128, -20))), wide=kind == "wide")


def paddings() -> st.SearchStrategy[Padding]:
    """Of a border: none, thin, or thicker than most tiles."""
    side = st.sampled_from((0, 0, 1, 2, 7))
    return st.tuples(side, side, side, side)


@st.composite
def averages(draw: st.DrawFn) -> dict[str, Any]:
    """Divisor (0: each window its own) and rounding of an average of stored integers."""
    rounding = draw(st.sampled_from((Rounding.SINGLE, Rounding.FLOAT64_HALF_AWAY)))
    return {"divisor": draw(st.sampled_from((None, None, 0, 3))), "rounding": rounding}


def broadcast(draw: st.DrawFn, net: Net, x: str) -> str:
    """An operation of ``x`` with a smaller tensor, a pool of it or a constant, in either order."""
    channels, height, width = image_shape(net.shape(x))
    match len(net.shape(x)):
        case 1:
            other = net.constant(draw(st.sampled_from(((channels,), (1,)))))
        case 2:
            other = net.constant(draw(st.sampled_from(((width, channels), (1, channels), (channels,)))))
        case _:
            kernel = draw(st.sampled_from(((height, width), (height, 1), (1, width))))
            other = net.max_pool(x, kernel, (1, 1))
            if draw(st.booleans()):
                other = net.constant((draw(st.sampled_from((1, channels))), *net.shape(other)[1:]))
    operation = draw(st.sampled_from((net.add, net.subtract, net.multiply)))
    return operation(*draw(st.permutations((x, other))))


@settings(max_examples=120)
@given(networks(), st.sampled_from(CONFIGS), roundings())
def test_random_networks(case: tuple[Net, Graph], cfg: AcceleratorConfig, rounding: Rounding | int) -> None:
    net, graph = case
    try:
        check(net, graph, cfg, rounding)
    except ModelError as error:
        # The smallest memories cannot hold what one pixel of a wide kernel reads.
        assert "does not fit" in str(error)
        assert cfg is not ROOMY


def concat(draw: st.DrawFn, net: Net, x: str) -> str:
    """``x`` and others of its scale behind each other, along channels or pixels; what it was alone is read again."""
    rank = len(net.shape(x))
    channels_axis = 2 if rank == 2 else 1
    channels = image_shape(net.shape(x))[0]
    axis = draw(st.integers(1, rank))
    parts = [x]
    for kind in draw(st.lists(st.sampled_from(("same", "table", "conv")), min_size=1, max_size=2)):
        if kind == "same":
            parts.append(x)
        elif kind == "table":
            parts.append(net.like(net.table(x), x))
        else:
            made = draw(st.integers(1, 20)) if axis == channels_axis else channels
            parts.append(net.like(net.conv(x, made), x))
    return net.concat(axis, *draw(st.permutations(parts)))


# --- One case for each way through the mapper, on each configuration.


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("case", ["pixel", "beyond", "stride", "depthwise", "groups", "tokens", "wide", "deep"])
def test_odd_convolutions(cfg: AcceleratorConfig, case: str) -> None:
    shape, channels, kernel, options = {
        "pixel": ((5, 1, 1), 7, (1, 1), {}),
        "beyond": ((2, 3, 2), 3, (5, 5), {"padding": (2, 2, 2, 2)}),
        "stride": ((3, 7, 6), 5, (1, 2), {"stride": (3, 3)}),
        "depthwise": ((10, 6, 6), 10, (3, 3), {"padding": (1, 1, 1, 1), "groups": 10}),
        "groups": ((6, 4, 4), 9, (2, 2), {"groups": 3}),
        "tokens": ((5, 9), 11, (1, 1), {}),
        "wide": ((3, 2, 70), 4, (1, 3), {"padding": (0, 1, 0, 1)}),
        "deep": ((40, 3, 3), 20, (2, 2), {}),
    }[case]
    net = Net(shape)
    check(net, net.graph(net.conv("input", channels, kernel, **options)), cfg)


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda c: c.name)
def test_a_residual_block(cfg: AcceleratorConfig) -> None:
    net = Net((6, 9, 8))
    x = net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1), low=0)
    y = net.conv(net.conv(x, 8, (3, 3), padding=(1, 1, 1, 1)), 8)
    y = net.table(net.add(y, x))
    y = net.reshape(net.avg_pool(y, (9, 8), (9, 8)), (8,))
    check(net, net.graph(net.conv(y, 10)), cfg)


def test_a_tensor_that_is_read_twice_and_kept() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 4)
    y = net.add(net.conv(x, 4, (3, 3), padding=(1, 1, 1, 1)), x)
    for cfg in CONFIGS:
        check(net, net.graph(x, y), cfg)


def test_two_tables_take_turns_in_one_slot() -> None:
    net = Net((4, 3, 3))
    y = net.table(net.conv(net.table(net.conv("input", 4)), 4))
    program = check(net, net.graph(net.table(y)), CONFIGS[4])
    (step,) = program.steps
    assert isinstance(step, RunStep)
    assert sum(isinstance(i, Load) and i.memory == Memory.TABLE for i in step.instructions) == 3


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda c: c.name)
def test_joined_tensors_are_written_where_they_belong(cfg: AcceleratorConfig) -> None:
    net = Net((3, 9, 8))
    a = net.conv("input", 24, (3, 3), padding=(1, 1, 1, 1))
    b = net.like(net.table(net.conv("input", 24)), a)
    c = net.max_pool(a, (3, 3), (1, 1), (1, 1, 1, 1))
    y = net.concat(1, a, b, c, a)
    program = check(net, net.graph(net.conv(y, 5), y), cfg)
    # What others read as well is copied.
    assert [layer.op for layer in program.layers] == [
        "Conv2d", "Conv2d+Table+Concat", "MaxPool2d+Concat", "Concat", "Concat", "Conv2d"]
    net = Net((3, 9, 8))
    a = net.conv("input", 5)
    rows = net.concat(2, a, net.like(net.conv("input", 5), a))
    program = check(net, net.graph(net.table(net.concat(3, rows, rows))), cfg)
    assert [layer.op for layer in program.layers] == [*2 * ["Conv2d+Concat"], "Concat", "Concat", "Table"]


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda c: c.name)
def test_averages_that_count_no_padding_are_made_in_regions(cfg: AcceleratorConfig) -> None:
    net = Net((3, 9, 8))
    y = net.raw_pool(net.conv("input", 5), (3, 3), (1, 1), (1, 1, 1, 1), divisor=0)
    z = net.raw_pool("input", (4, 3), (2, 3), (2, 1, 3, 0), divisor=0, rounding=Rounding.SINGLE)
    program = check(net, net.graph(y, z), cfg)
    assert [layer.on for layer in program.layers] == ["array", *(9 + 8) * ["post"]]


# --- Host steps.


def test_host_operators_run_between_runs_of_the_accelerator() -> None:
    net = Net((4, 3, 3))
    y = net.host(net.conv("input", 4), "aten.sigmoid.default")
    z = net.add(net.conv(y, 4), y)
    program = check(net, net.graph(z), ROOMY)
    assert [getattr(step, "kind", "run") for step in program.steps] == ["run", "dequantize", "op", "quantize", "run"]
    assert [layer.on for layer in program.layers] == ["array", "host", "host", "host", "array"]
    assert "aten.sigmoid.default" in program.layers[2].reason
    with pytest.raises(ModelError, match=r"aten\.sigmoid\.default"):
        compile_graph(net.graph(z), ROOMY, strict=True)


def test_equal_layers_of_two_runs_have_constants_of_their_own() -> None:
    net = Net((4,))
    y = net.host(net.conv("input", 4), "aten.neg.default")
    check(net, net.graph(net.conv(y, 4)), ROOMY)


# --- What a program says about itself.


def test_layers_of_a_program_add_up() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1))
    y = net.max_pool(x, (2, 2), (2, 2))
    z = net.requantize(y)
    program = check(net, net.graph(z), ROOMY)
    first, second = program.layers
    assert (first.name, first.op, first.on, first.macs) == ("conv1", "Conv2d+MaxPool2d", "array", 8 * 4 * 9 * 64)
    assert (second.op, second.on, second.macs) == ("Requantize", "post", 0)
    assert first.predicted_cycles + second.predicted_cycles == program.predicted_cycles
    (step,) = program.steps
    assert isinstance(step, RunStep)
    assert len(step.layer_of) == len(step.instructions)
    assert all(step.layer_of[i] == 0 for i, ins in enumerate(step.instructions) if isinstance(ins, Exec))


def test_the_report_tells_tilings_traffic_and_the_memory_map() -> None:
    net = Net((4, 8, 8))
    x = net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1))
    program = compile_graph(net.graph(net.conv(x, 4)), ROOMY)
    (run,) = program.report["steps"]
    first, second = run["layers"]
    assert first["cycles_alone"] <= first["first_fit_cycles"] * 1.01
    word = ROOMY.bus.data_bytes
    assert (first["bytes"]["loaded"], first["bytes"]["stored"]) == (64 * word, 0)
    assert (second["bytes"]["loaded"], second["bytes"]["stored"]) == (0, 64 * word)
    words = {block["name"]: block["words"] for block in run["memory_map"]}
    assert words == {"input": 64, x: 128, "conv2.out": 64}
    assert run["weights_stay"]


def test_programs_survive_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = Net((4, 8, 8))
    graph = net.graph(net.conv("input", 8, (3, 3)))
    program = compile_graph(graph, ROOMY, name="small")
    program.save(tmp_path / "p")
    assert Program.load(tmp_path / "p").digest == program.digest
    assert program.name == "small"


def test_a_wide_layer_is_refused_with_the_numbers() -> None:
    net = Net((2000,))
    with pytest.raises(ModelError, match=r"2008 bytes for the operands .* of 1024 \(memory.activation_bytes\)"):
        compile_graph(net.graph(net.conv("input", 4)), replace(CONFIGS[4], name="small"))
