# SPDX-License-Identifier: Apache-2.0
"""LiteRT and onnxruntime in a process of their own: damaged files crash them, or keep them busy for ever."""

import contextlib
import importlib
import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Oracle", "run_litert", "run_onnxruntime", "shapes_by_litert"]

Array = npt.NDArray[Any]

SECONDS = 10
START_SECONDS = 120
MEMORY = 4 << 30


class Oracle:
    """Runs models in a process, which it starts again when a model ended it.

    Parameters
    ----------
    function : callable
        Outputs of a model's file for its inputs, both in the order of the file.
    module : str
        What it imports: that takes long, and is no part of the time that a model has.
    """

    def __init__(self, function: Callable[[bytes, list[Array]], list[Array]], module: str) -> None:
        self._function = function
        self._module = module
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
        result: list[Array] | str = self.ask(self._function, model, inputs)
        return result

    def ask(self, *question: Any) -> Any:
        """Result of a function, which comes first, for its arguments; or why there is none, as text."""
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
        self._process = context.Process(target=_serve, args=(other, self._module), daemon=True)
        self._process.start()
        other.close()
        if not self._link.poll(START_SECONDS):
            raise TimeoutError(f"{self._module} was not imported in {START_SECONDS} s")
        self._link.recv()

    def _stop(self) -> None:
        if self._process is not None and self._link is not None:
            self._link.close()
            self._process.kill()
            self._process.join()
        self._process = self._link = None


def _serve(link: Connection, module: str) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # The interpreter writes to the streams of the process.
        os.dup2(silence, stream)
    importlib.import_module(module)
    link.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            function, *arguments = link.recv()
            try:
                answer = function(*arguments)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            link.send(answer)


def _allocated(model: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    return interpreter


def run_litert(model: bytes, inputs: list[Array]) -> list[Array]:
    """Outputs by LiteRT's ``BUILTIN_REF``."""
    interpreter = _allocated(model)
    for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def shapes_by_litert(model: bytes) -> list[list[int]]:
    """Shapes that the operators give the tensors, whatever the file says."""
    return [detail["shape"].tolist() for detail in _allocated(model).get_tensor_details()]


def run_onnxruntime(model: bytes, inputs: list[Array]) -> list[Array]:
    """Outputs by onnxruntime, each operator by itself."""
    from ..onnx.models import session

    runs = session(model)
    feeds = dict(zip((entry.name for entry in runs.get_inputs()), inputs, strict=True))
    return [np.array(result) for result in runs.run(None, feeds)]
