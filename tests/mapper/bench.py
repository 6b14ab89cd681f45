# SPDX-License-Identifier: Apache-2.0
"""Small networks built by hand, small accelerators, and programs run on the instruction-set simulator."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tilewright_hdl.activation_layout import pack, packed_bytes, unpack
from tilewright_hdl.config import AcceleratorConfig, ArrayConfig, BusConfig, MemoryConfig, PostConfig
from tilewright_hdl.program import Program, RunStep
from tilewright_mapper.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Graph,
    MaxPool2d,
    Node,
    Quantize,
    Requantize,
    Reshape,
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
    groups: int = 64, bus: int = 64, tables: int = 2, add: bool = True, semaphore_bits: int = 6, banks: int = 4,
    multiplier_bits: int = 31,
) -> AcceleratorConfig:
    """An accelerator; sizes in words."""
    return AcceleratorConfig(
        name=f"test{rows}x{columns}",
        array=ArrayConfig(rows=rows, columns=columns),
        memory=MemoryConfig(
            activation_bytes=activation_words * rows, weight_bytes=weight_words * columns, accumulator_entries=entries,
            parameter_groups=groups, activation_banks=banks,
        ),
        post=PostConfig(lanes=lanes, tables=tables, add=add, multiplier_bits=multiplier_bits),
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
        low: int = -128, high: int = 127,
    ) -> str:
        name, (inputs, _, _) = self._name("conv"), image_shape(self.shape(x))
        weight = self.rng.integers(-127, 128, (channels, inputs // groups, *kernel)).astype(np.int8)
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

    def add(self, a: str, b: str, *, low: int = -128) -> str:
        name = self._name("add")
        y = self.tensor(f"{name}.out", self.shape(a))
        self.nodes.append(Add(name=name, inputs=(a, b), outputs=(y,), low=low))
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

    def replaced(self, node: Node, **changes: object) -> None:
        """Change a node."""
        self.nodes[self.nodes.index(node)] = replace(node, **changes)  # type: ignore[arg-type]


def run_program(program: Program, inputs: Mapping[str, Int8], *, times: int = 1) -> tuple[dict[str, Int8], RunResult]:
    """Outputs of a program without host steps, and the result of its last run."""
    page = 4096
    arena = -(-len(program.constants) // page) * page
    code = arena + -(-program.arena_bytes // page) * page
    longest = max(len(step.code) for step in program.steps if isinstance(step, RunStep))
    machine = IssMachine(program.config, memory_bytes=code + -(-longest // page) * page)
    machine.write(0, program.constants)
    for _ in range(times):
        for name, value in inputs.items():
            offset = program.tensors[name].arena_offset
            assert offset is not None
            machine.write(arena + offset, pack(program.config, value))
        for step in program.steps:
            assert isinstance(step, RunStep), step
            machine.write(code, step.code)
            result = machine.run(Job(program_address=code, program_bytes=len(step.code), constant_base=0,
                                     arena_base=arena))
    outputs = {}
    for name in program.outputs:
        info = program.tensors[name]
        assert info.arena_offset is not None
        data = machine.read(arena + info.arena_offset, packed_bytes(program.config, info.shape))
        outputs[name] = unpack(program.config, data, info.shape)
    return outputs, result
