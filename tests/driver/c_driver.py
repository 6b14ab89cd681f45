# SPDX-License-Identifier: Apache-2.0
"""The driver in C, compiled with all warnings as errors, on whatever Python puts behind its bus."""

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tilewright_driver.c_export import driver_files, program_files
from tilewright_hdl.program import Program

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-O2")
OK, NO_ACCELERATOR, OTHER_CONFIGURATION, BUSY, NOT_WRITTEN, TIMEOUT, STOPPED = range(7)

_word, _pointer = ctypes.c_uint32, ctypes.c_void_p
_READ_REGISTER = ctypes.CFUNCTYPE(_word, _pointer, _word)
_WRITE_REGISTER = ctypes.CFUNCTYPE(None, _pointer, _word, _word)
_MEMORY = ctypes.CFUNCTYPE(None, _pointer, _word, _pointer, _word)
_GIVE_UP = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, ctypes.c_int)


class Bus(Protocol):
    """What the C driver is given; registers by their offset."""

    def read_register(self, offset: int) -> int: ...

    def write_register(self, offset: int, value: int) -> None: ...

    def read(self, address: int, length: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def give_up(self, first: bool) -> bool: ...


class _TwBus(ctypes.Structure):
    _fields_ = [
        ("context", _pointer), ("read_register", _READ_REGISTER), ("write_register", _WRITE_REGISTER),
        ("read_memory", _MEMORY), ("write_memory", _MEMORY), ("give_up", _GIVE_UP),
    ]


class CDriver:
    """A program and the driver, as a shared library.

    Parameters
    ----------
    program : Program
    bus : Bus
    folder : Path
        For sources and library.
    """

    def __init__(self, program: Program, bus: Bus, folder: Path):
        self._program, self._bus, self._errors = program, bus, list[BaseException]()
        sources = driver_files() | program_files(program)
        for name, text in sources.items():
            (folder / name).write_text(text)
        library = folder / "driver.so"
        subprocess.run(["cc", *STRICT, "-shared", "-fPIC", "-o", str(library),
                        *(str(folder / name) for name in sources if name.endswith(".c"))], check=True)
        self._library = ctypes.CDLL(str(library))
        self._data = ctypes.byref(_word.in_dll(self._library, f"tw_program_{program.name}"))
        self._library.tw_result_text.restype = ctypes.c_char_p
        self._c_bus = _TwBus(None, _READ_REGISTER(self._read_register), _WRITE_REGISTER(self._write_register),
                             _MEMORY(self._read), _MEMORY(self._write), _GIVE_UP(self._give_up))

    def load(self) -> int:
        return self._call("tw_load", self._data)

    def run(self, *images: npt.NDArray[Any]) -> tuple[int, list[npt.NDArray[Any]]]:
        """Result, and the output arrays, of one image for each input."""
        outputs = [np.zeros(t.end_shape, t.end_dtype) for t in map(self._program.tensors.get, self._program.outputs)
                   if t is not None]
        whole = [np.ascontiguousarray(image) for image in images]
        return self._call("tw_run", self._data, _addresses(whole), _addresses(outputs)), outputs

    def ask(self, function: str) -> int:
        """What ``tw_cycles``, ``tw_stop_code`` or ``tw_stop_index`` says."""
        return self._call(function)

    def text(self, result: int) -> str:
        found: bytes = self._library.tw_result_text(result)
        return found.decode()

    def _call(self, function: str, *arguments: Any) -> int:
        result: int = getattr(self._library, function)(ctypes.byref(self._c_bus), *arguments)
        if self._errors:
            raise self._errors[0]
        return result

    def _kept(self, call: Callable[[], Any], otherwise: int = 0) -> Any:
        """What a callback gives. C cannot pass an exception on: it is raised when C has returned."""
        try:
            return call()
        except BaseException as error:
            self._errors.append(error)
            return otherwise

    def _read_register(self, _: Any, offset: int) -> int:
        return int(self._kept(lambda: self._bus.read_register(offset)))

    def _write_register(self, _: Any, offset: int, value: int) -> None:
        self._kept(lambda: self._bus.write_register(offset, value))

    def _read(self, _: Any, address: int, data: int, length: int) -> None:
        self._kept(lambda: ctypes.memmove(data, self._bus.read(address, length), length))

    def _write(self, _: Any, address: int, data: int, length: int) -> None:
        self._kept(lambda: self._bus.write(address, ctypes.string_at(data, length)))

    def _give_up(self, _: Any, first: int) -> int:
        return int(bool(self._errors) or self._kept(lambda: self._bus.give_up(bool(first)), 1))


def _addresses(arrays: Sequence[npt.NDArray[Any]]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
