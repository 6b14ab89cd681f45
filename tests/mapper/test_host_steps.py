# SPDX-License-Identifier: Apache-2.0
"""What a configuration lacks runs on the host, bit for bit as the reference has it, and strict refuses it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapper.bench import Net, config
from tests.mapper.test_pipeline import check, networks, rounded, roundings
from tilewright_driver.device import Device
from tilewright_driver.host import run_host_step
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import ModelError
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.program import HostStep, Program, TensorInfo
from tilewright_hdl.program_integer import FORMS, check_integer_step
from tilewright_mapper.graph import ConstantTensor, Graph, HostOp, Quantize, Reshape
from tilewright_mapper.host_steps import host_step
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.reference_run import reference_run
from tilewright_sim.iss import IssMachine

LACKING = (
    config(4, 4, 2, add=False),
    config(4, 4, 2, tables=0),
    config(4, 4, 2, multiply=False),
    config(8, 4, 4, add=False, multiply=False, tables=0, multiplier_bits=18),
)
BARE = config(4, 4, 1, add=False, multiply=False, tables=0, pools=False)


def residual(net: Net) -> Graph:
    """Convolutions with a table, a product and a sum between them, and an average at the end."""
    x = net.table(net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1)))
    y = net.add(net.multiply(net.conv(x, 8), x), x, low=-5)
    return net.graph(net.conv(net.avg_pool(y, (2, 2), (2, 2)), 3), y)


@pytest.mark.parametrize("cfg", LACKING, ids=("add", "tables", "multiply", "all"))
@pytest.mark.parametrize("rounding", HARDWARE_ROUNDINGS)
def test_a_configuration_without_an_operator(cfg: AcceleratorConfig, rounding: Rounding) -> None:
    net = Net((6, 6, 6))
    program = check(net, residual(net), cfg, rounding)
    hosted = [layer for layer in program.layers if layer.on == "host"]
    wanted = {"Add": "set post.add = true", "Table": "set post.tables to at least 1",
              "Multiply": "set post.multiply = true"}
    have = {"Table": cfg.post.tables, "Multiply": cfg.post.multiply, "Add": cfg.post.add}
    lacking = [op for op, has in have.items() if not has]
    assert [layer.op for layer in hosted] == lacking
    for layer in hosted:
        assert wanted[layer.op] in layer.reason and layer.predicted_cycles == 0


def test_a_configuration_without_pools() -> None:
    """Only what comes out of the array is processed; each operator that would read activations names what it lacks."""
    cfg = config(4, 4, 2, add=False, multiply=False, pools=False)
    net = Net((6, 9, 9))
    x = net.max_pool(net.table(net.conv("input", 8, (3, 3), padding=(1, 1, 1, 1))), (3, 3), (2, 2))
    y = net.add(net.conv(x, 8), net.conv(x, 8))
    program = check(net, net.graph(net.conv(net.avg_pool(y, (2, 2), (2, 2)), 3), y), cfg, Rounding.SINGLE)
    places = [(layer.op, layer.on) for layer in program.layers]
    assert {op for op, on in places if on == "host"} == {"Table", "MaxPool2d", "Add", "AvgPool2d"}
    assert sum(on != "host" for _, on in places) == 4
    reasons = {layer.op: layer.reason for layer in program.layers if layer.on == "host"}
    pools = f"configuration {cfg.name!r} processes only what comes out of its array; set post.pools = true"
    assert reasons["MaxPool2d"] == reasons["AvgPool2d"] == reasons["Table"] == pools
    assert reasons["Add"] == f"{pools}; configuration {cfg.name!r} has no residual adder; set post.add = true"


@settings(max_examples=40)
@given(networks(), st.sampled_from((*LACKING, BARE)), roundings())
def test_random_networks(case: tuple[Net, Graph], cfg: AcceleratorConfig, rounding: Rounding | int) -> None:
    net, graph = case
    check(net, graph, cfg, rounding)


def info(graph: Graph, name: str) -> TensorInfo:
    tensor = graph.tensor(name)
    return TensorInfo(name=name, shape=tensor.shape, dtype=tensor.dtype, scale=tensor.scale,
                      zero_point=tensor.zero_point)


@settings(max_examples=80)
@given(networks(), roundings(), st.sampled_from((31, 12)))
def test_every_integer_operator_on_the_host(case: tuple[Net, Graph], rounding: Rounding | int, bits: int) -> None:
    net, graph = case[0], rounded(case[1], rounding)
    values = reference_run(graph, net.image()[None], bits=bits)
    tensors = {name: info(graph, name) for name in graph.tensors}
    single = {name: value[0] for name, value in values.items()}
    for node in graph:
        if isinstance(node, Quantize | Reshape | ConstantTensor | HostOp):
            continue
        step = host_step(graph, node, 0, bits=bits)
        check_integer_step(step, tensors)
        (found,) = run_host_step(step, tensors, single).values()
        np.testing.assert_array_equal(found, single[node.output], err_msg=node.name)


def test_steps_survive_a_file_and_the_driver(tmp_path: Path) -> None:
    net = Net((6, 6, 6))
    graph, cfg = residual(net), LACKING[3]
    compile_graph(graph, cfg).save(tmp_path / "p")
    program = Program.load(tmp_path / "p")
    hosted = {s.target for s in program.steps if isinstance(s, HostStep) and s.kind == "integer"}
    assert hosted == {"add", "multiply", "table"}
    x = np.stack([net.image() for _ in range(3)])
    with Device(IssMachine(cfg)) as device:
        found = device.run(program, x)
        assert [layer.on for layer in device.profile().layers].count("host") == 3
    expected = reference_run(graph, x, bits=cfg.post.multiplier_bits)
    for name, values in zip(program.outputs, found, strict=True):
        np.testing.assert_array_equal(values, expected[name])


def test_a_network_that_runs_on_the_host_alone(tmp_path: Path) -> None:
    net = Net((6,))
    graph, cfg = net.graph(net.add(net.table("input"), "input")), LACKING[3]
    compile_graph(graph, cfg).save(tmp_path / "p")
    x = net.image()[None]
    with Device(IssMachine(cfg)) as device:
        found = device.run(Program.load(tmp_path / "p"), x)
        assert device.profile().cycles == 0
    expected = reference_run(graph, x, bits=cfg.post.multiplier_bits)
    np.testing.assert_array_equal(found, expected[graph.outputs[0]])


def test_strict_refuses_and_names_all() -> None:
    net = Net((6, 6, 6))
    with pytest.raises(ModelError) as caught:
        compile_graph(residual(net), LACKING[3], strict=True)
    message = str(caught.value)
    for what, lacks in (("Table 'table2'", "has no tables"), ("Add 'add5'", "has no residual"),
                        ("Multiply 'multiply4'", "multiplies no two tensors")):
        assert f"{what} runs on the host, which strict=True forbids: configuration 'test8x4' {lacks}" in message
    assert message.count("\n  - ") == 3


def test_a_pool_larger_than_any_instruction_runs_on_the_host() -> None:
    net = Net((4, 300, 1))
    graph = net.graph(net.conv(net.max_pool(net.conv("input", 4), (300, 1), (1, 1)), 4))
    program = check(net, graph, config(4, 4, 2))
    assert [(layer.op, layer.on) for layer in program.layers] == [
        ("Conv2d", "array"), ("MaxPool2d", "host"), ("Conv2d", "array")]
    assert "its kernel must be at most 255 for the accelerator, but is 300" in program.layers[1].reason


def test_scales_that_no_multiplier_expresses_are_refused_on_the_host_too() -> None:
    net = Net((4,))
    y = net.add("input", "input")
    net.tensors[y] = replace(net.tensors[y], scale=1e-18)
    with pytest.raises(ModelError, match=r"Add 'add1' cannot be rescaled: .* quantize the model again"):
        compile_graph(net.graph(y), LACKING[0])


def test_forms_are_all_made() -> None:
    """Each operator of the program file has a node that it stands for."""
    net = Net((4, 4, 4))
    net.conv("input", 4)
    net.conv("input", 4, wide=True)
    net.add("input", "input")
    net.subtract("input", "input")
    net.multiply("input", "input")
    net.max_pool("input", (2, 2), (2, 2))
    net.avg_pool("input", (2, 2), (2, 2))
    net.raw_pool("input", (2, 2), (2, 2))
    net.pad("input", (1, 0, 0, 0))
    net.table("input")
    net.requantize("input")
    graph = net.graph()
    made = {host_step(graph, node, 0, bits=31).target for node in graph.nodes[1:]}
    # An IntegerOp names its own.
    assert made == FORMS.keys() - {"softmax"}
