# SPDX-License-Identifier: Apache-2.0
"""Damaged model files against the importers and their frameworks.

What is demanded of each file:

* The import ends within :data:`SECONDS` of the processor, with a graph or a ``TilewrightError``. No other exception,
  no warning.
* Where there is a graph without ``Unsupported`` nodes, ``reference_run`` of its canonical form ends too, with results
  or a ``TilewrightError``, and each output equals the one of LiteRT's ``BUILTIN_REF``, or of onnxruntime, to the bit.
  Of ONNX that holds where nothing is computed in floats between.
* Where the framework refuses the file, crashes or does not end, either is right: there is nothing to compare with.
* A graph that claims more than :data:`MOST_ELEMENTS` elements is imported but not run.
"""

import collections
import math
import random
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tilewright_hdl.errors import TilewrightError
from tilewright_mapper.graph import Graph, Unsupported
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run

from .frameworks import Framework
from .oracle import Oracle

__all__ = ["Difference", "compare", "judge", "run"]

Array = npt.NDArray[Any]

SECONDS = 5.0
"""Processor time for one file; the small ones of the fuzz run take some milliseconds."""

MOST_ELEMENTS = 1 << 20
UNSIGNED_OFFSET = 128

Then = Callable[[Graph, list[Array], list[Array]], None]


class Difference(AssertionError):
    """A file on which we and the framework disagree, or that was not answered as it must be."""


def judge(data: bytes, framework: Framework, oracle: Oracle, then: Then | None = None) -> str:
    """Import and run one file.

    Parameters
    ----------
    then : callable, optional
        Takes the canonical graph, inputs and outputs where the results are equal, and raises a :class:`Difference`.

    Returns
    -------
    str
        What came of it: ``"refused"``, ``"unsupported"``, ``"not run"``, ``"refused later"``, ``"reference refused"``,
        ``"not compared"`` or ``"equal"``.

    Raises
    ------
    Difference
        If anything that the head of this file demands does not hold.
    """
    try:
        with _limit("import"):
            graph = framework.read(data)
            if any(isinstance(node, Unsupported) for node in graph):
                return "unsupported"
            graph = canonicalize(graph)
            if sum(math.prod(tensor.shape) for tensor in graph.tensors.values()) > MOST_ELEMENTS:
                return "not run"
    except TilewrightError as error:
        if not str(error).strip():
            raise Difference("an error without a text") from error
        return "refused"
    except Exception as error:
        raise Difference(f"import ended with {type(error).__name__}: {error}") from error
    inputs = [_random(dtype, shape) for dtype, shape in framework.inputs(data, graph)]
    expected = oracle.run(data, inputs)
    try:
        with _limit("reference_run"):
            results = _outputs(graph, inputs)
    except TilewrightError:
        return "refused later"
    except Exception as error:
        raise Difference(f"reference_run ended with {type(error).__name__}: {error}") from error
    if isinstance(expected, str):
        return "reference refused"
    if not framework.is_exact(graph):
        return "not compared"
    compare(graph.outputs, results, expected)
    if then is not None:
        then(graph, inputs, expected)
    return "equal"


def _random(dtype: str, shape: tuple[int, ...]) -> Array:
    """Values of a generator that always starts anew; integers of the whole range."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return np.asarray(4 * rng.standard_normal(shape), dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=np.dtype(dtype), endpoint=True)


def _outputs(graph: Graph, inputs: list[Array]) -> list[Array]:
    """Outputs as the framework has them, of inputs as it takes them."""
    given = {}
    for name, values in zip(graph.inputs, inputs, strict=True):
        tensor = graph.tensor(name)
        if tensor.unsigned:
            values = (values.astype(np.int16) - UNSIGNED_OFFSET).astype(np.int8)
        shape = tensor.shape
        if tensor.channels_last:
            values = np.moveaxis(values.reshape(1, *shape[1:], shape[0]), -1, 1)
        given[name] = values.reshape(1, *shape)
    computed = reference_run(graph, given)
    results = []
    for name in graph.outputs:
        tensor = graph.tensor(name)
        values = computed[name] if name in computed else given[name]
        if tensor.unsigned:
            values = (values.astype(np.int16) + UNSIGNED_OFFSET).astype(np.uint8)
        results.append(np.moveaxis(values, 1, -1) if tensor.channels_last else values)
    return results


def compare(names: Sequence[str], results: Sequence[Array], expected: Sequence[Array]) -> None:
    """Raise a :class:`Difference` unless all values are the same."""
    if len(results) != len(expected):
        raise Difference(f"{len(results)} outputs instead of {len(expected)}")
    for name, ours, theirs in zip(names, results, expected, strict=True):
        if ours.dtype != theirs.dtype or ours.size != theirs.size:
            raise Difference(f"{name}: {ours.dtype} {ours.shape} instead of {theirs.dtype} {theirs.shape}")
        different = int((ours.reshape(-1) != theirs.reshape(-1)).sum())
        if different:
            raise Difference(f"{name}: {different} of {ours.size} values differ")


@contextmanager
def _limit(what: str) -> Iterator[None]:
    """Raise a :class:`Difference` in what takes too long; make warnings errors."""

    def stop(number: int, frame: object) -> None:
        raise Difference(f"{what} took more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(
    framework: Framework,
    seed: int,
    count: int,
    models: dict[str, bytes] | None = None,
    *,
    keep: Path | None = None,
    then: Then | None = None,
) -> tuple[dict[str, int], list[str]]:
    """Judge damaged copies of models, the same for the same seed.

    Parameters
    ----------
    models : dict
        Good files; the framework's small ones unless given.
    keep : Path, optional
        Folder for files that fail.
    then : callable, optional
        As of :func:`judge`.

    Returns
    -------
    counts, failures
        How often each came of it, and one line for each file that failed.
    """
    torch.set_num_threads(1)  # The models are small, and other tests run beside.
    rng = random.Random(seed)
    files = sorted((framework.seed_models() if models is None else models).items())
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    with framework.oracle() as oracle:
        for index in range(count):
            name, good = rng.choice(files)
            data = framework.damage(rng, good, oracle)
            try:
                counts[judge(data, framework, oracle, then)] += 1
            except Difference as failure:
                failures.append(f"seed {seed}, file {index} (from {name!r}): {failure}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}_{index}{framework.suffix}").write_bytes(data)
    return dict(counts), failures
