# SPDX-License-Identifier: Apache-2.0
"""The program: all that a device needs to run a network, in one file.

Main memory holds three things: the *constants* (weights, parameters and tables, ``Segment.CONSTANT``), the *arena*
(inputs, outputs and activations that do not stay on chip, ``Segment.ARENA``) and the code of each step. A program is a
list of steps: a :class:`RunStep` is code for the accelerator, a :class:`HostStep` an operator that the host runs.
Before its first inference, ``setup`` brings the constants on chip that stay there from one inference to the next.

File format
-----------
8 bytes magic, 32 bytes SHA-256 of all that follows, then the body as ``program_codec`` writes it. The digest is checked
before anything is read, every number of the header after.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from . import program_codec
from .activation_layout import packed_bytes
from .config import AcceleratorConfig
from .errors import IsaError, ProgramError, TilewrightError
from .files import write_whole
from .isa import Instruction, Load, Memory, Segment, decode_program
from .isa_text import disassemble
from .numerics import INT8_MAX, INT8_MIN, QuantizeRule, Rounding
from .program_integer import check_integer_step
from .program_parts import CHANNELS_LAST, DTYPES, HostStep, Layer, RunStep, Step, TensorInfo

__all__ = ["CHANNELS_LAST", "HostStep", "Layer", "Program", "RunStep", "TensorInfo"]

MAGIC = b"TILEWRT\x03"
MAX_MEMORY = 1 << 32
"""Bytes that the constants or the arena may take: what a 32-bit address reaches."""

SMALLEST_SCALE = 2.0**-126
"""The smallest normal number of float32; the host divides by scales."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled network.

    Parameters
    ----------
    name : str
    config : AcceleratorConfig
        Accelerator that it was compiled for; devices of another digest refuse it.
    roundings : tuple of Rounding
        Rules that its code needs of the accelerator.
    constants : bytes
        Image of ``Segment.CONSTANT``.
    arena_bytes : int
        Size of ``Segment.ARENA``.
    tensors : mapping of str to TensorInfo
    inputs, outputs : tuple of str
        Tensors of the network's call, in order.
    steps : tuple of RunStep or HostStep
    layers : tuple of Layer
    setup : bytes
        Encoded LOADs of the constants that stay on chip: weights, parameters and tables that the code of the steps
        reads, but does not load. A device runs it before the first inference, and again when they may be gone.
    report : mapping
        Plain data of the mapper for people: memory map, tilings, what runs on the host and why.

    Raises
    ------
    ProgramError
        If the parts do not fit together.
    """

    name: str
    config: AcceleratorConfig
    roundings: tuple[Rounding, ...]
    constants: bytes
    arena_bytes: int
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    layers: tuple[Layer, ...]
    setup: bytes = b""
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def macs(self) -> int:
        """Multiplications of one inference on the accelerator."""
        return sum(layer.macs for layer in self.layers if layer.on != "host")

    @property
    def predicted_cycles(self) -> int:
        """Cycles of one inference by the cycle model."""
        return sum(layer.predicted_cycles for layer in self.layers)

    @cached_property
    def setup_instructions(self) -> tuple[Instruction, ...]:
        """Decoded ``setup``."""
        return tuple(decode_program(self.setup))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the file's contents."""
        return hashlib.sha256(program_codec.encode(self)).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the program file. The file appears whole or not at all.

        Raises
        ------
        ProgramError
            If it cannot be written.
        """
        body = program_codec.encode(self)
        try:
            write_whole({Path(path): MAGIC + hashlib.sha256(body).digest() + body})
        except OSError as error:
            raise ProgramError(f"Program file {path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a program file.

        Raises
        ------
        ProgramError
            If the file cannot be read, is damaged, or its parts do not fit together.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                # Not all of it yet: a device may never end.
                magic, digest = file.read(len(MAGIC)), file.read(hashlib.sha256().digest_size)
                body = file.read() if magic == MAGIC else b""
        except OSError as error:
            raise ProgramError(f"Program file {path} cannot be read: {error.strerror or error}") from error
        if magic != MAGIC:
            raise ProgramError(f"{path} is not a Tilewright program of this version: it must begin with {MAGIC!r}, "
                               f"not {magic!r}; compile the model again with `tilewright compile`")
        if hashlib.sha256(body).digest() != digest:
            raise ProgramError(f"Program file {path} is damaged: its contents do not match its SHA-256 digest; "
                               f"copy it again or compile the model again")
        try:
            return program_codec.typed(cls, program_codec.decode(body))
        except TilewrightError as error:
            raise ProgramError(f"Program file {path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, struct.error, OverflowError, RecursionError) as error:
            raise ProgramError(f"Program file {path} is malformed: {type(error).__name__}: {error}") from error


def _check(program: Program) -> None:
    """Refuse a program whose parts do not fit together."""
    for rounding in program.roundings:
        if rounding not in program.config.post.roundings:
            have = ", ".join(program.config.post.roundings)
            raise ProgramError(f"The program needs rounding {rounding.value!r}, which configuration "
                               f"{program.config.name!r} lacks; it has {have}")
    if not 0 <= program.arena_bytes <= MAX_MEMORY or len(program.constants) > MAX_MEMORY:
        raise ProgramError(f"Arena and constants must each have 0 to {MAX_MEMORY} bytes, not {program.arena_bytes} "
                           f"and {len(program.constants)}")
    for name, info in program.tensors.items():
        _check_tensor(program, name, info)
    _check_setup(program)
    known: set[str] = set(program.inputs)
    for number, step in enumerate(program.steps):
        _check_step(program, number, step, known)
        known.update(step.outputs)
    for name in program.inputs + program.outputs:
        if name not in known or name not in program.tensors:
            raise ProgramError(f"Tensor {name!r} is an input or output of the program, but no step makes it")
    for layer in program.layers:
        if layer.on not in Layer.PLACES or layer.macs < 0 or layer.predicted_cycles < 0:
            raise ProgramError(f"Layer {layer.name!r} must be on one of {', '.join(Layer.PLACES)} with counts that are "
                               f"not negative, not {layer}")


def _check_tensor(program: Program, name: str, info: TensorInfo) -> None:
    if info.name != name or any(not isinstance(n, int) or n < 1 for n in info.shape) or info.dtype not in DTYPES:
        raise ProgramError(f"Tensor {name!r} must have its own name, positive sizes and a dtype of "
                           f"{', '.join(DTYPES)}, not {info}")
    if info.is_quantized:
        scale, zero_point = info.quantization
        sound = SMALLEST_SCALE <= scale <= 1 / SMALLEST_SCALE and INT8_MIN <= zero_point <= INT8_MAX
        if not sound or info.dtype != "int8":
            raise ProgramError(f"Tensor {name!r} must be int8 with a positive scale (at least {SMALLEST_SCALE:g}) and "
                               f"an int8 zero point, not {info}")
    if (info.channels_last and len(info.shape) != 3) or (info.unsigned and not info.is_quantized):
        raise ProgramError(f"Tensor {name!r} must have rank 3 to have its channels last, and be int8 to be seen as "
                           f"unsigned, not {info}")
    if info.rule not in list(QuantizeRule):
        raise ProgramError(f"Tensor {name!r} must be quantized by one of {', '.join(QuantizeRule)}, not {info.rule!r}")
    if info.rows and (info.arena_offset is None or info.dtype != "int8"):
        raise ProgramError(f"Tensor {name!r} must be int8 and have a place in the arena to lie there as rows, "
                           f"not {info}")
    if info.arena_offset is not None:
        end = info.arena_offset + packed_bytes(program.config, info.shape, rows=info.rows)
        if info.arena_offset < 0 or info.arena_offset % program.config.bus.data_bytes or end > program.arena_bytes:
            raise ProgramError(f"Tensor {name!r} must lie in whole beats inside of the arena of {program.arena_bytes} "
                               f"bytes, not at {info.arena_offset} to {end}")


def _check_setup(program: Program) -> None:
    try:
        instructions = program.setup_instructions
    except IsaError as error:
        raise ProgramError(f"Setup: {error}") from error
    for ins in instructions:
        if not isinstance(ins, Load) or ins.segment != Segment.CONSTANT or ins.memory == Memory.ACTIVATION:
            raise ProgramError(f"Setup must only load weights, parameters and tables from the constants, not "
                               f"{disassemble(ins).strip()}")


def _check_step(program: Program, number: int, step: Step, known: set[str]) -> None:
    for name in step.inputs + step.outputs:
        if name not in program.tensors:
            raise ProgramError(f"Step {number} names the tensor {name!r}, which the program does not have")
    for name in step.inputs:
        if name not in known:
            raise ProgramError(f"Step {number} reads the tensor {name!r} before any step has made it")
    layers = (step.layer,) if isinstance(step, HostStep) else step.layer_of
    if any(not 0 <= i < len(program.layers) for i in layers):
        raise ProgramError(f"Step {number} names a layer outside of the program's {len(program.layers)}")
    if isinstance(step, HostStep):
        if step.kind not in HostStep.KINDS or not step.outputs:
            raise ProgramError(f"Step {number} must have outputs and be one of {', '.join(HostStep.KINDS)}, "
                               f"not {step.kind!r}")
        try:
            _check_host_step(step, program.tensors)
        except ProgramError as error:
            raise ProgramError(f"Step {number}: {error}") from error
        return
    try:
        count = len(step.instructions)
    except IsaError as error:
        raise ProgramError(f"Step {number}: {error}") from error
    if count != len(step.layer_of):
        raise ProgramError(f"Step {number} must name a layer for each of its {count} instructions, "
                           f"not {len(step.layer_of)}")
    for name in step.inputs + step.outputs:
        if program.tensors[name].arena_offset is None:
            raise ProgramError(f"Step {number} runs on the accelerator, but its tensor {name!r} has no place in the "
                               f"arena")
    for name in step.outputs:
        if program.tensors[name].rows:
            raise ProgramError(f"Step {number} runs on the accelerator, which writes words, but its output {name!r} "
                               f"lies in the arena as rows")


def _check_host_step(step: HostStep, tensors: Mapping[str, TensorInfo]) -> None:
    if step.kind == "integer":
        check_integer_step(step, tensors)
    if step.kind in ("op", "integer"):
        return
    if step.kind == "constant":
        _check_constant(step, tensors)
        return
    if step.kind == "quantize" and step.target not in list(QuantizeRule):
        raise ProgramError(f"a quantize must follow one of {', '.join(QuantizeRule)}, not {step.target!r}")
    if step.kind == "reshape" and step.target not in ("", CHANNELS_LAST):
        raise ProgramError(f"a reshape must count elements in PyTorch's order or {CHANNELS_LAST}, not {step.target!r}")
    if len(step.inputs) != 1 or len(step.outputs) != 1:
        raise ProgramError(f"a {step.kind} must have one input and one output, not {step}")
    source, target = tensors[step.inputs[0]], tensors[step.outputs[0]]
    fits = math.prod(source.shape) == math.prod(target.shape) and {
        "quantize": source.dtype == "float32" and target.is_quantized,
        "dequantize": source.is_quantized and target.dtype == "float32",
        "reshape": source.dtype == target.dtype,
    }[step.kind]
    if not fits or not INT8_MIN <= step.low <= step.high <= INT8_MAX:
        raise ProgramError(f"a {step.kind} must have tensors of matching types and sizes, and a clamp within int8, not "
                           f"{source} and {target}, {step.low} to {step.high}")


def _check_constant(step: HostStep, tensors: Mapping[str, TensorInfo]) -> None:
    found = len(step.inputs), len(step.outputs), sorted(step.constants)
    if found != (0, 1, ["values"]):
        raise ProgramError(f"a constant must have (inputs, outputs, constants) (0, 1, ['values']), not {found}")
    values, target = step.constants["values"], tensors[step.outputs[0]]
    if (values.shape, values.dtype.name) != (target.shape, target.dtype):
        raise ProgramError(f"a constant must have the shape and the dtype of its tensor, {target.shape} and "
                           f"{target.dtype}, not {values.shape} and {values.dtype}")
