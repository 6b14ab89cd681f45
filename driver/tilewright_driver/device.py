# SPDX-License-Identifier: Apache-2.0
"""A device: runs program files on any machine, and says what it cost.

The device knows a machine only by the interface of :class:`tilewright_sim.machine.Machine`, so the same code drives the
instruction-set simulator, the RTL and, later, boards.
"""

from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tilewright_hdl.activation_layout import pack, packed_bytes, unpack
from tilewright_hdl.errors import DeviceError, ProgramError
from tilewright_hdl.numerics import QuantizeRule, dequantize, quantize
from tilewright_hdl.program import HostStep, Program, RunStep, TensorInfo
from tilewright_sim.checker import check_program, check_setup
from tilewright_sim.machine import Job, Machine, RunResult

from .host import import_for, run_host_step
from .profile import Profile, profile_of

__all__ = ["Device", "place", "required_memory"]

ALIGNMENT = 4096
"""Bytes between the places of constants, arena and code in main memory: where bursts must break anyway."""


class Device:
    """An accelerator that runs programs.

    Use it as a context manager, or call :meth:`close`.

    Parameters
    ----------
    machine : Machine
    """

    def __init__(self, machine: Machine):
        self._machine = machine
        self._loaded: Program | None = None
        self._resident: str | None = None
        """Digest of the program whose constants are on chip, if it is certain that they are."""
        self._setup: Job | None = None
        self._jobs: list[Job] = []
        self._profile: Profile | None = None

    @property
    def name(self) -> str:
        """Kind of the machine: ``"iss"``, ``"rtl"``, or a board."""
        return self._machine.name

    @property
    def machine(self) -> Machine:
        return self._machine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the machine; later calls raise ``DeviceError``."""
        self._machine.close()

    def load(self, program: Program) -> None:
        """Put a program's constants and code into main memory, unless it is there already.

        Raises
        ------
        ProgramError
            If the program is for another configuration, or not safe to run.
        DeviceError
            If main memory is too small.
        """
        if self._loaded is program:
            return
        config = self._machine.config
        if program.config.digest != config.digest:
            raise ProgramError(
                f"Program {program.name!r} must be compiled for this device's configuration {config.name!r} (digest "
                f"{config.digest[:12]}), not for {program.config.name!r} ({program.config.digest[:12]}); compile the "
                f"model again with config={config.name!r}, or open the device with config={program.config.name!r}"
            )
        resident, self._loaded, self._resident = self._resident, None, None
        contents, setup, jobs, end = place(program)
        if end > self._machine.memory_bytes:
            raise DeviceError(f"Main memory must have {end} bytes for program {program.name!r}, but has only "
                              f"{self._machine.memory_bytes}; open a simulator with memory_bytes={end}, or take a "
                              f"board with more")
        for step in _run_steps(program):
            check_program(
                config, step.instructions, constant_bytes=len(program.constants), arena_bytes=program.arena_bytes
            )
        check_setup(
            config, program.setup_instructions, [step.instructions for step in _run_steps(program)],
            constant_bytes=len(program.constants),
        )
        for address, data in contents:
            self._machine.write(address, data)
        self._setup, self._jobs = setup, jobs
        self._loaded, self._resident = program, resident

    def run(self, program: Program, *inputs: Any, progress: Callable[[int], None] | None = None) -> Any:
        """Run a program on a batch.

        Parameters
        ----------
        program : Program
        *inputs : array or torch.Tensor
            One for each input of the network, batch first, in the layout of the model's framework: floating point
            (quantized on the way in), or integers (int8, or uint8 where the model has that; taken as they are).
        progress : callable, or None
            Called with the number of images done, after each.

        Returns
        -------
        array or torch.Tensor, or a tuple of them
            Of the kind of the first input. Float inputs give dequantized float32 results, integers give integers.

        Raises
        ------
        TypeError, ValueError
            If an input has the wrong dtype or shape.
        ProgramError, DeviceError
            See :meth:`load`, and when the machine stops with an error.
        """
        self.load(program)
        tensors = [program.tensors[name] for name in program.inputs]
        arrays, as_torch = _as_arrays(inputs, len(tensors))
        integer = _check_inputs(arrays, tensors)
        images: list[list[npt.NDArray[Any]]] = []
        runs: list[list[RunResult]] = []
        import_for(program)
        host_seconds = dict.fromkeys(range(len(program.layers)), 0.0)
        try:
            setup_cycles = self._bring_constants(program)
            for number in range(len(arrays[0])):
                values = {
                    t.name: _quantized(t.from_end(a[number]), t) for t, a in zip(tensors, arrays, strict=True)
                }
                runs.append(self._run_image(program, values, host_seconds))
                images.append([_delivered(values[name], program.tensors[name], integer) for name in program.outputs])
                if progress is not None:
                    progress(number + 1)
        except BaseException:
            # A board may have lost its memories. Writing what is there again costs little.
            self._loaded = self._resident = None
            raise
        self._profile = profile_of(program, self.name, runs, host_seconds, setup_cycles=setup_cycles)
        results: list[Any] = [np.stack(column) for column in zip(*images, strict=True)]
        if as_torch:
            import torch

            results = [torch.from_numpy(result) for result in results]
        return results[0] if len(results) == 1 else tuple(results)

    def profile(self) -> Profile:
        """Cycles, utilization and stalls of the last :meth:`run`.

        Raises
        ------
        DeviceError
            If nothing has been run.
        """
        if self._profile is None:
            raise DeviceError("A profile exists only after device.run(program, x); nothing has been run yet")
        return self._profile

    def _bring_constants(self, program: Program) -> int:
        """Have the constants on chip that stay there; the cycles that this took, 0 if they were there."""
        if self._resident == program.digest:
            return 0
        self._resident = None
        cycles = 0 if self._setup is None else self._start(self._setup).cycles
        self._resident = program.digest
        return cycles

    def _start(self, job: Job) -> RunResult:
        """Run a job. Whatever breaks it off, constants that were on chip do not count as being there any more."""
        resident, self._resident = self._resident, None
        result = self._machine.run(job)
        self._resident = resident
        return result

    def _run_image(
        self, program: Program, values: dict[str, npt.NDArray[Any]], host_seconds: dict[int, float]
    ) -> list[RunResult]:
        """Run all steps on one image; ``values`` gains every tensor that a step makes, ``host_seconds`` its times."""
        results, jobs = [], iter(self._jobs)
        for step in program.steps:
            if isinstance(step, HostStep):
                start = perf_counter()
                values.update(run_host_step(step, program.tensors, values))
                host_seconds[step.layer] += perf_counter() - start
                continue
            job = next(jobs)
            for name in step.inputs:
                memory = pack(program.config, values[name], rows=program.tensors[name].rows)
                self._machine.write(job.arena_base + _offset(program, name), memory)
            results.append(self._start(job))
            for name in step.outputs:
                shape = program.tensors[name].shape
                memory = self._machine.read(
                    job.arena_base + _offset(program, name), packed_bytes(program.config, shape)
                )
                values[name] = unpack(program.config, memory, shape)
        return results


def _offset(program: Program, name: str) -> int:
    offset = program.tensors[name].arena_offset
    assert offset is not None, "Program checks that accelerator tensors have a place"
    return offset


def _run_steps(program: Program) -> list[RunStep]:
    return [step for step in program.steps if isinstance(step, RunStep)]


def required_memory(program: Program) -> int:
    """Bytes of main memory that a program takes, a multiple of 4096."""
    return place(program)[-1]


def place(program: Program) -> tuple[list[tuple[int, bytes]], Job | None, list[Job], int]:
    """Where a program lies in main memory.

    Returns
    -------
    contents : list of (int, bytes)
        What to write to which address.
    setup : Job or None
    jobs : list of Job
        Of the accelerator's steps, in order.
    end : int
        The bytes that it takes.
    """

    def aligned(address: int) -> int:
        return -(-address // ALIGNMENT) * ALIGNMENT

    arena_base = aligned(len(program.constants))
    address = arena_base + aligned(program.arena_bytes)
    contents, jobs = [(0, program.constants)], []
    codes = [program.setup] if program.setup else []
    for code in (*codes, *(step.code for step in _run_steps(program))):
        jobs.append(Job(program_address=address, program_bytes=len(code), constant_base=0, arena_base=arena_base))
        contents.append((address, code))
        address = aligned(address + len(code))
    setup = jobs.pop(0) if codes else None
    return contents, setup, jobs, address


def _as_arrays(inputs: tuple[Any, ...], expected: int) -> tuple[list[npt.NDArray[Any]], bool]:
    if len(inputs) != expected:
        raise ValueError(f"The program takes {expected} input(s), not {len(inputs)}")
    as_torch = hasattr(inputs[0], "detach")
    arrays = [x.detach().cpu().numpy() if hasattr(x, "detach") else x for x in inputs]
    for array in arrays:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"An input must be a NumPy array or a torch.Tensor, not {type(array).__name__}")
    return arrays, as_torch


def _check_inputs(arrays: list[npt.NDArray[Any]], tensors: list[TensorInfo]) -> bool:
    """Refuse wrong shapes and dtypes; whether the inputs are integers."""
    for number, (array, tensor) in enumerate(zip(arrays, tensors, strict=True), 1):
        which = f"Input {number} of {len(tensors)} ({tensor.name!r})"
        if array.ndim != len(tensor.shape) + 1 or array.shape[1:] != tensor.end_shape:
            wanted = ", ".join(map(str, ("N", *tensor.end_shape)))
            raise ValueError(f"{which} must have shape ({wanted}), batch first, not {array.shape}")
        if array.shape[0] != arrays[0].shape[0] or array.shape[0] == 0:
            raise ValueError(f"Inputs must have the same batch of at least one, not {[a.shape[0] for a in arrays]}")
        whole = tensor.end_dtype if tensor.is_quantized else "int8"
        if array.dtype.name != whole and array.dtype.kind != "f":
            raise TypeError(f"{which} must be floating point (it is quantized on the way in) or {whole}, "
                            f"not {array.dtype}")
    kinds = {array.dtype.kind != "f" for array in arrays}
    if len(kinds) > 1:
        raise TypeError(f"Inputs must be all integers or all floating point, not {[str(a.dtype) for a in arrays]}")
    return kinds.pop()


def _quantized(value: npt.NDArray[Any], tensor: TensorInfo) -> npt.NDArray[Any]:
    if value.dtype == np.int8:
        if not tensor.is_quantized:
            raise TypeError(f"Input {tensor.name!r} is not quantized in this program: it must be floating point")
        return value
    if not tensor.is_quantized:
        return value.astype(tensor.dtype)
    return quantize(value, *tensor.quantization, rule=QuantizeRule(tensor.rule))


def _delivered(value: npt.NDArray[Any], tensor: TensorInfo, integer: bool) -> npt.NDArray[Any]:
    if not integer and tensor.is_quantized:
        return np.asarray(tensor.to_end(dequantize(value, *tensor.quantization)))
    return tensor.to_end(value)
