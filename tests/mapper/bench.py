# SPDX-License-Identifier: Apache-2.0
"""Small networks built by hand, small accelerators, and programs run on the instruction-set simulator."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_driver.host import run_host_step
from tilewright_hdl.activation_layout import pack, packed_bytes, unpack
from tilewright_hdl.config import AcceleratorConfig, ArrayConfig, BusConfig, MemoryConfig, PostConfig
from tilewright_hdl.numerics import HARDWARE_ROUNDINGS, Rounding
from tilewright_hdl.program import HostStep, Program, RunStep
from tilewright_mapper.graph import (
    Add,
    AvgPool2d,
    ConstantTensor,
    Conv2d,
    Dequantize,
    Elementwise,
    Graph,
    HostOp,
    Linear,
    MaxPool2d,
    Multiply,
    Node,
    Pad2d,
    Padding,
    Quantize,
    Requantize,
    Reshape,
    Rounded,
    Subtract,
    Table,
    Tensor,
    image_shape,
    spatial_shape,
)
from tilewright_sim.iss import IssMachine
from tilewright_sim.machine import Job, RunResult

Int8 = npt.NDArray[np.int8]


def config(
    rows: int, columns: int, lanes: int, *, activation_words: int = 1024, weight_words: int = 512, entries: int = 64,
    groups: int = 64, bus: int = 64, tables: int = 2, add: bool = True, multiply: bool = True, semaphore_bits: int = 6,
    banks: int = 4, multiplier_bits: int = 31, pools: bool = True,
) -> AcceleratorConfig:
    """An accelerator; sizes in words."""
    return AcceleratorConfig(
        name=f"test{rows}x{columns}",
        array=ArrayConfig(rows=rows, columns=columns),
        memory=MemoryConfig(
            activation_bytes=activation_words * rows, weight_bytes=weight_words * columns, accumulator_entries=entries,
            parameter_groups=groups, activation_banks=banks,
        ),
        post=PostConfig(lanes=lanes, tables=tables, add=add, multiply=multiply, multiplier_bits=multiplier_bits,
                        pools=pools),
        bus=BusConfig(data_bits=bus, burst_beats=16),
        semaphore_bits=semaphore_bits,
    )


class Net:
    """A network under construction, and its random numbers.

    Parameters
    ----------
    shape : tuple of int
        Of the input.
    """

    def __init__(self, shape: tuple[int, ...], seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.tensors["float"] = Tensor(name="float", shape=shape, dtype="float32")
        self.input = self.tensor("input", shape)
        self.nodes.append(Quantize(name="quantize", inputs=("float",), outputs=("input",)))

    def tensor(self, name: str, shape: tuple[int, ...], *, scale: float | None = None, zero: int | None = None) -> str:
        """A new int8 tensor with random quantization where none is given."""
        scale = float(self.rng.uniform(0.02, 0.08)) if scale is None else scale
        zero = int(self.rng.integers(-20, 21)) if zero is None else zero
        self.tensors[name] = Tensor(name=name, shape=shape, dtype="int8", scale=scale, zero_point=zero)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def _spatial(self, x: str, channels: int, kernel: tuple[int, int], stride: tuple[int, int],
                 padding: tuple[int, int, int, int], dilation: tuple[int, int]) -> tuple[int, ...]:
        _, h, w = image_shape(self.shape(x))
        oh, ow = spatial_shape((h, w), kernel, stride, padding, dilation)
        rank = len(self.shape(x))
        return {1: (channels,), 2: (ow, channels), 3: (channels, oh, ow)}[rank]

    def conv(
        self, x: str, channels: int, kernel: tuple[int, int] = (1, 1), *, stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0), dilation: tuple[int, int] = (1, 1), groups: int = 1,
        low: int = -128, high: int = 127, wide: bool = False,
    ) -> str:
        name, (inputs, _, _) = self._name("conv"), image_shape(self.shape(x))
        weight = self._weight((channels, inputs // groups, *kernel), wide)
        spread = np.sqrt(weight[0].size) * 70
        scale_x, _ = self.tensors[x].quantization
        y = self.tensor(f"{name}.out", self._spatial(x, channels, kernel, stride, padding, dilation))
        scale_y, _ = self.tensors[y].quantization
        self.nodes.append(Conv2d(
            name=name, inputs=(x,), outputs=(y,), weight=weight,
            bias=self.rng.integers(-2000, 2001, channels).astype(np.int32),
            weight_scale=self.rng.uniform(0.5, 1.0, channels) * scale_y / (scale_x * spread),
            stride=stride, padding=padding, dilation=dilation, groups=groups, low=low, high=high,
        ))
        return y

    def _weight(self, shape: tuple[int, ...], wide: bool) -> npt.NDArray[Any]:
        if not wide:
            return self.rng.integers(-127, 128, shape).astype(np.int8)
        # As uint8 weights have them: some beyond int8, the farthest as well, and whole channels within.
        most = self.rng.choice((100, 255), (shape[0], 1, 1, 1))
        return np.where(self.rng.integers(0, 9, shape) == 0, most, self.rng.integers(-most, most + 1, shape)).astype(
            np.int16)

    def add(self, a: str, b: str, *, low: int = -128) -> str:
        return self._elementwise(Add, a, b, low)

    def subtract(self, a: str, b: str, *, low: int = -128) -> str:
        return self._elementwise(Subtract, a, b, low)

    def multiply(self, a: str, b: str, *, low: int = -128) -> str:
        return self._elementwise(Multiply, a, b, low)

    def _elementwise(self, kind: type[Elementwise], a: str, b: str, low: int) -> str:
        name = self._name(kind.__name__.lower())
        # The axes of the operand that has more of them, each as long as the longer one.
        first, second = sorted((self.shape(a), self.shape(b)), key=len)
        shape = tuple(map(max, zip(first, second, strict=True))) if len(first) == len(second) else second
        scales = [self.tensors[x].quantization[0] for x in (a, b)]
        scale = 30 * scales[0] * scales[1] if kind is Multiply else None
        y = self.tensor(f"{name}.out", shape, scale=scale)
        self.nodes.append(kind(name=name, inputs=(a, b), outputs=(y,), low=low))
        return y

    def constant(self, shape: tuple[int, ...]) -> str:
        name = self._name("constant")
        y = self.tensor(f"{name}.out", shape)
        values = self.rng.integers(-128, 128, shape).astype(np.int8)
        self.nodes.append(ConstantTensor(name=name, inputs=(), outputs=(y,), values=values))
        return y

    def concat(self, axis: int, *parts: str) -> str:
        """Tensors of one quantization behind each other; ``axis`` counts the batch."""
        name, (scale, zero) = self._name("concat"), self.tensors[parts[0]].quantization
        shape = list(self.shape(parts[0]))
        shape[axis - 1] = sum(self.shape(x)[axis - 1] for x in parts)
        y = self.tensor(f"{name}.out", tuple(shape), scale=scale, zero=zero)
        self.nodes.append(HostOp(name=name, inputs=tuple(dict.fromkeys(parts)), outputs=(y,), target="aten.cat.default",
                                 args=(tuple({"tensor": x} for x in parts), axis)))
        return y

    def like(self, x: str, other: str) -> str:
        """Give ``x``, whose quantization nothing has used yet, that of ``other``."""
        scale, zero = self.tensors[other].quantization
        self.tensors[x] = replace(self.tensors[x], scale=scale, zero_point=zero)
        return x

    def pad(self, x: str, padding: Padding, value: int | None = None) -> str:
        """A border, of the zero point if nothing else is given."""
        name, (scale, zero) = self._name("pad"), self.tensors[x].quantization
        (channels, height, width), (top, left, bottom, right) = image_shape(self.shape(x)), padding
        y = self.tensor(f"{name}.out", (channels, height + top + bottom, width + left + right), scale=scale, zero=zero)
        self.nodes.append(Pad2d(name=name, inputs=(x,), outputs=(y,), padding=padding,
                                value=zero if value is None else value))
        return y

    def max_pool(self, x: str, kernel: tuple[int, int], stride: tuple[int, int],
                 padding: tuple[int, int, int, int] = (0, 0, 0, 0), dilation: tuple[int, int] = (1, 1)) -> str:
        name, (channels, _, _) = self._name("max"), image_shape(self.shape(x))
        scale, zero = self.tensors[x].quantization
        shape = self._spatial(x, channels, kernel, stride, padding, dilation)
        y = self.tensor(f"{name}.out", shape, scale=scale, zero=zero)
        self.nodes.append(MaxPool2d(name=name, inputs=(x,), outputs=(y,), kernel=kernel, stride=stride,
                                    padding=padding, dilation=dilation))
        return y

    def avg_pool(self, x: str, kernel: tuple[int, int], stride: tuple[int, int],
                 padding: tuple[int, int, int, int] = (0, 0, 0, 0)) -> str:
        name, (channels, _, _) = self._name("avg"), image_shape(self.shape(x))
        y = self.tensor(f"{name}.out", self._spatial(x, channels, kernel, stride, padding, (1, 1)))
        self.nodes.append(AvgPool2d(name=name, inputs=(x,), outputs=(y,), kernel=kernel, stride=stride,
                                    padding=padding, divisor=kernel[0] * kernel[1]))
        return y

    def raw_pool(
        self, x: str, kernel: tuple[int, int], stride: tuple[int, int],
        padding: tuple[int, int, int, int] = (0, 0, 0, 0), *, divisor: int | None = None,
        rounding: Rounding = Rounding.FLOAT64_HALF_AWAY,
    ) -> str:
        """An average of the stored integers."""
        name, (channels, _, _) = self._name("raw"), image_shape(self.shape(x))
        scale, zero = self.tensors[x].quantization
        shape = self._spatial(x, channels, kernel, stride, padding, (1, 1))
        y = self.tensor(f"{name}.out", shape, scale=scale, zero=zero)
        count = kernel[0] * kernel[1] if divisor is None else divisor
        self.nodes.append(AvgPool2d(name=name, inputs=(x,), outputs=(y,), kernel=kernel, stride=stride,
                                    padding=padding, divisor=count, raw=True, rounding=rounding))
        return y

    def table(self, x: str) -> str:
        name = self._name("table")
        y = self.tensor(f"{name}.out", self.shape(x))
        table = self.rng.integers(-128, 128, 256).astype(np.int8)
        self.nodes.append(Table(name=name, inputs=(x,), outputs=(y,), table=table))
        return y

    def requantize(self, x: str) -> str:
        name = self._name("requantize")
        y = self.tensor(f"{name}.out", self.shape(x))
        self.nodes.append(Requantize(name=name, inputs=(x,), outputs=(y,), low=-100, high=90))
        return y

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        name = self._name("reshape")
        scale, zero = self.tensors[x].quantization
        y = self.tensor(f"{name}.out", shape, scale=scale, zero=zero)
        self.nodes.append(Reshape(name=name, inputs=(x,), outputs=(y,)))
        return y

    def graph(self, *outputs: str) -> Graph:
        return Graph(nodes=tuple(self.nodes), tensors=dict(self.tensors), inputs=("float",), outputs=outputs)

    def image(self) -> Int8:
        """Random input."""
        return self.rng.integers(-128, 128, self.shape("input")).astype(np.int8)

    def host(self, x: str, target: str) -> str:
        """An operator of one tensor that the host runs, between a dequantize and a quantize."""
        name = self._name("host")
        shape = self.shape(x)
        for kind in ("in", "out"):
            self.tensors[f"{name}.{kind}"] = Tensor(name=f"{name}.{kind}", shape=shape, dtype="float32")
        y = self.tensor(f"{name}.q", shape)
        self.nodes += [
            Dequantize(name=f"{name}.dequantize", inputs=(x,), outputs=(f"{name}.in",)),
            HostOp(name=name, inputs=(f"{name}.in",), outputs=(f"{name}.out",), target=target,
                   args=({"tensor": f"{name}.in"},)),
            Quantize(name=f"{name}.quantize", inputs=(f"{name}.out",), outputs=(y,)),
        ]
        return y


def mixed_roundings(graph: Graph, seed: int) -> Graph:
    """The graph with a rule for each node, as a model of several frameworks would have."""
    rng = np.random.default_rng(seed)

    def mixed(node: Node) -> Node:
        if not isinstance(node, Rounded) or not node.rescales:
            return node
        away = (Rounding.FLOAT64_HALF_AWAY,) if isinstance(node, Conv2d | Linear | AvgPool2d) else ()
        return replace(node, rounding=(*HARDWARE_ROUNDINGS, *away)[rng.integers(2 + len(away))])

    return replace(graph, nodes=tuple(mixed(node) for node in graph))


def run_program(
    program: Program, inputs: Mapping[str, Any], *, times: int = 1
) -> tuple[dict[str, Any], RunResult | None]:
    """Outputs of a program, and the result of its last run on the accelerator, if it has one.

    With ``times`` the program runs again on the machine as the run before left it.
    """
    return _Runner(program).run(inputs, times)


class _Runner:
    """A host for one program."""

    def __init__(self, program: Program):
        page = 4096
        self.program = program
        self.arena = -(-len(program.constants) // page) * page
        self.code = self.arena + -(-program.arena_bytes // page) * page
        codes = [program.setup, *(step.code for step in program.steps if isinstance(step, RunStep))]
        longest = max(map(len, codes))
        self.machine = IssMachine(program.config, memory_bytes=self.code + -(-longest // page) * page + page)
        self.machine.write(0, program.constants)
        self.host: dict[str, Any] = {}
        self.result: RunResult | None = None
        if program.setup:
            self._start(program.setup)

    def _start(self, code: bytes) -> RunResult:
        self.machine.write(self.code, code)
        return self.machine.run(Job(program_address=self.code, program_bytes=len(code), constant_base=0,
                                    arena_base=self.arena))

    def run(self, inputs: Mapping[str, Any], times: int) -> tuple[dict[str, Any], RunResult | None]:
        for _ in range(times):
            for name, value in inputs.items():
                self._set(name, value)
            for step in self.program.steps:
                if isinstance(step, RunStep):
                    self.result = self._start(step.code)
                else:
                    self._host_step(step)
        return {name: self._get(name) for name in self.program.outputs}, self.result

    def _set(self, name: str, value: Any) -> None:
        info = self.program.tensors[name]
        if info.arena_offset is None:
            self.host[name] = value
        else:
            self.machine.write(self.arena + info.arena_offset, pack(self.program.config, value, rows=info.rows))

    def _get(self, name: str) -> Any:
        info = self.program.tensors[name]
        if info.arena_offset is None:
            return self.host[name]
        data = self.machine.read(self.arena + info.arena_offset, packed_bytes(self.program.config, info.shape))
        return unpack(self.program.config, data, info.shape)

    def _host_step(self, step: HostStep) -> None:
        values = {name: self._get(name) for name in step.inputs}
        results = run_host_step(step, self.program.tensors, values)
        for name, value in results.items():
            self._set(name, value)
