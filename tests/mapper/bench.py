# SPDX-License-Identifier: Apache-2.0
"""Small networks built by hand, small accelerators, and programs run on the instruction-set simulator."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_driver.host import run_host_step
from tilewright_hdl.activation_layout import pack, packed_bytes, unpack
from tilewright_hdl.config import AcceleratorConfig, ArrayConfig, BusConfig, MemoryConfig, PostConfig
from tilewright_hdl.program import HostStep, Program, RunStep
from tilewright_mapper.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    Dequantize,
    Graph,
    HostOp,
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


def run_program(program: Program, inputs: Mapping[str, Any], *, times: int = 1) -> tuple[dict[str, Any], RunResult]:
    """Outputs of a program, and the result of its last run on the accelerator.

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
        longest = max((len(step.code) for step in program.steps if isinstance(step, RunStep)), default=0)
        self.machine = IssMachine(program.config, memory_bytes=self.code + -(-longest // page) * page + page)
        self.machine.write(0, program.constants)
        self.host: dict[str, Any] = {}
        self.result: RunResult | None = None

    def run(self, inputs: Mapping[str, Any], times: int) -> tuple[dict[str, Any], RunResult]:
        for _ in range(times):
            for name, value in inputs.items():
                self._set(name, value)
            for step in self.program.steps:
                if isinstance(step, RunStep):
                    self.machine.write(self.code, step.code)
                    self.result = self.machine.run(Job(program_address=self.code, program_bytes=len(step.code),
                                                       constant_base=0, arena_base=self.arena))
                else:
                    self._host_step(step)
        assert self.result is not None
        return {name: self._get(name) for name in self.program.outputs}, self.result

    def _set(self, name: str, value: Any) -> None:
        offset = self.program.tensors[name].arena_offset
        if offset is None:
            self.host[name] = value
        else:
            self.machine.write(self.arena + offset, pack(self.program.config, value))

    def _get(self, name: str) -> Any:
        info = self.program.tensors[name]
        if info.arena_offset is None:
            return self.host[name]
        data = self.machine.read(self.arena + info.arena_offset, packed_bytes(self.program.config, info.shape))
        return unpack(self.program.config, data, info.shape)

    def _host_step(self, step: HostStep) -> None:
        values = {name: self._get(name) for name in step.inputs}
        results = run_host_step(step, self.program.tensors, values, rounding=self.program.rounding)
        for name, value in results.items():
            self._set(name, value)
