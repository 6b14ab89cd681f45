# SPDX-License-Identifier: Apache-2.0
"""LiteRT's interpreter in a process of its own: damaged files crash it, or keep it busy for ever."""

import contextlib
import multiprocessing
import os
import resource
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Oracle"]

Array = npt.NDArray[Any]

SECONDS = 10
MEMORY = 4 << 30


class Oracle:
    """Runs models with ``BUILTIN_REF``; restarts its process when a model ended it."""

    def __init__(self) -> None:
        self._process: Any = None
        self._link: Connection | None = None

    def __enter__(self) -> "Oracle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self, model: bytes, inputs: list[Array]) -> list[Array] | str:
        """Outputs of the model in order, or why there are none: an error, a crash, or no end in time."""
        result: list[Array] | str = self._ask(_run, model, inputs)
        return result

    def shapes(self, model: bytes) -> list[list[int]] | str:
        """Shapes that the operators give the tensors, whatever the file says; or why there are none."""
        result: list[list[int]] | str = self._ask(_shapes, model)
        return result

    def _ask(self, *question: Any) -> Any:
        if self._link is None:
            self._start()
        assert self._link is not None
        try:
            self._link.send(question)
            if self._link.poll(SECONDS):
                return self._link.recv()
            reason = f"no result in {SECONDS} s"
        except (EOFError, OSError):
            reason = "crash"
        self._stop()
        return reason

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._link, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def _stop(self) -> None:
        if self._process is not None and self._link is not None:
            self._link.close()
            self._process.kill()
            self._process.join()
        self._process = self._link = None


def _serve(link: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # The interpreter writes to the streams of the process.
        os.dup2(silence, stream)
    with contextlib.suppress(EOFError):
        while True:
            function, *arguments = link.recv()
            try:
                answer = function(*arguments)
            except (RuntimeError, ValueError, MemoryError, TypeError, OverflowError) as error:
                answer = f"{type(error).__name__}: {error}"
            link.send(answer)


def _allocated(model: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    return interpreter


def _run(model: bytes, inputs: list[Array]) -> list[Array]:
    interpreter = _allocated(model)
    for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def _shapes(model: bytes) -> list[list[int]]:
    return [detail["shape"].tolist() for detail in _allocated(model).get_tensor_details()]
