# SPDX-License-Identifier: Apache-2.0
"""Damaged TFLite files against the importer and LiteRT::

    python -m tests.mapper.fuzz_models --count 5000 --seed 1

What is demanded of each file:

* ``import_tflite`` ends within :data:`SECONDS` of the processor, with a graph or a ``TilewrightError``. No other
  exception.
* Where there is a graph without ``Unsupported`` nodes, ``reference_run`` of its canonical form ends too, with results
  or a ``TilewrightError``, and each output equals the one of LiteRT's ``BUILTIN_REF`` to the bit.
* Where LiteRT refuses the file, crashes or does not end, either is right: there is nothing to compare with.
* A graph that claims more than :data:`MOST_ELEMENTS` elements is imported but not run.
"""

import argparse
import collections
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.errors import TilewrightError
from tilewright_mapper.graph import Graph, Unsupported
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.tflite_file import TfliteModel, read_tflite
from tilewright_mapper.tflite_import import import_tflite

from .fuzz_mutations import damage_bytes, damage_tables, with_shapes
from .fuzz_oracle import Oracle
from .fuzz_seeds import seed_models

__all__ = ["Difference", "judge", "mutants", "run"]

Array = npt.NDArray[Any]

SECONDS = 5.0
"""Processor time for one file; the small ones of the fuzz run take some milliseconds."""

MOST_ELEMENTS = 1 << 20
UNSIGNED_OFFSET = 128
BYTES_SHARE = 0.25
REPAIRED_SHARE = 0.7
"""Of the mutants, and of those whose tables were changed."""


class Difference(AssertionError):
    """A file on which we and the reference disagree, or that was not answered as it must be."""


def mutants(seed: int, count: int, models: dict[str, bytes], oracle: Oracle) -> Iterator[tuple[str, bytes]]:
    """Damaged copies of the models, the same for the same seed.

    A good part of those whose tables were changed gets the shapes that LiteRT then gives to the results, or few would
    come past the check of shapes.
    """
    rng = random.Random(seed)
    names = sorted(models)
    for _ in range(count):
        name = rng.choice(names)
        if rng.random() < BYTES_SHARE:
            yield name, damage_bytes(rng, models[name])
            continue
        data = damage_tables(rng, models[name])
        if rng.random() < REPAIRED_SHARE:
            shapes = oracle.shapes(data)
            yield name, data if isinstance(shapes, str) else with_shapes(data, shapes)
        else:
            yield name, data


def judge(data: bytes, oracle: Oracle) -> str:
    """Import and run one file.

    Returns
    -------
    str
        What came of it: ``"refused"``, ``"unsupported"``, ``"not run"``, ``"refused later"``, ``"reference refused"``
        or ``"equal"``.

    Raises
    ------
    Difference
        If anything that the head of this file demands does not hold.
    """
    try:
        with _limit("import"):
            graph = import_tflite(data)
            if any(isinstance(node, Unsupported) for node in graph):
                return "unsupported"
            file = read_tflite(data)
            if sum(int(np.prod(tensor.shape, dtype=object)) for tensor in file.tensors) > MOST_ELEMENTS:
                return "not run"
            graph = canonicalize(graph)
    except TilewrightError as error:
        return "refused" if str(error).strip() else _fail("an error without a text")
    except Exception as error:
        raise Difference(f"import ended with {type(error).__name__}: {error}") from error
    inputs = _inputs(file)
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
    _compare(graph, results, expected)
    return "equal"


def _fail(what: str) -> str:
    raise Difference(what)


def _inputs(file: TfliteModel) -> list[Array]:
    """Random input, of all integers of its type."""
    rng = np.random.default_rng(0)
    made = []
    for index in file.inputs:
        tensor = file.tensors[index]
        dtype = np.dtype(tensor.dtype)
        if dtype.kind == "f":
            made.append((4 * rng.standard_normal(tensor.shape)).astype(dtype))
        else:
            limits = np.iinfo(dtype)
            made.append(rng.integers(limits.min, limits.max, tensor.shape, dtype=dtype, endpoint=True))
    return made


def _outputs(graph: Graph, inputs: list[Array]) -> list[Array]:
    given = {}
    for name, values in zip(graph.inputs, inputs, strict=True):
        tensor = graph.tensor(name)
        if tensor.unsigned:
            values = (values.astype(np.int16) - UNSIGNED_OFFSET).astype(np.int8)
        shape = tensor.shape
        if tensor.channels_last:
            values = np.moveaxis(values.reshape(1, *shape[1:], shape[0]), -1, 1)
        given[name] = values.reshape(1, *shape)
    run = reference_run(graph, given)
    results = []
    for name in graph.outputs:
        tensor = graph.tensor(name)
        values = run[name] if name in run else given[name]
        if tensor.unsigned:
            values = (values.astype(np.int16) + UNSIGNED_OFFSET).astype(np.uint8)
        results.append(np.moveaxis(values, 1, -1) if tensor.channels_last else values)
    return results


def _compare(graph: Graph, results: list[Array], expected: list[Array]) -> None:
    if len(results) != len(expected):
        raise Difference(f"{len(results)} outputs instead of {len(expected)}")
    for name, ours, theirs in zip(graph.outputs, results, expected, strict=True):
        if ours.dtype != theirs.dtype or ours.size != theirs.size:
            raise Difference(f"{name}: {ours.dtype} {ours.shape} instead of {theirs.dtype} {theirs.shape}")
        different = int((ours.reshape(-1) != theirs.reshape(-1)).sum())
        if different:
            raise Difference(f"{name}: {different} of {ours.size} values differ")


@contextmanager
def _limit(what: str) -> Iterator[None]:
    """Raise a :class:`Difference` in what takes too long."""

    def stop(number: int, frame: object) -> None:
        raise Difference(f"{what} took more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(
    seed: int, count: int, models: dict[str, bytes], *, keep: Path | None = None
) -> tuple[dict[str, int], list[str]]:
    """Judge ``count`` mutants.

    Parameters
    ----------
    keep : Path, optional
        Folder for files that fail.

    Returns
    -------
    counts, failures
        How often each came of it, and one line for each file that failed.
    """
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    with Oracle() as oracle:
        for index, (name, data) in enumerate(mutants(seed, count, models, oracle)):
            try:
                counts[judge(data, oracle)] += 1
            except Difference as failure:
                failures.append(f"seed {seed}, file {index} (from {name!r}): {failure}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}_{index}.tflite").write_bytes(data)
    return dict(counts), failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged TFLite files against the importer and LiteRT.")
    parser.add_argument("--count", type=int, default=5000, help="how many files")
    parser.add_argument("--seed", type=int, default=1, help="of the random damages")
    parser.add_argument("--keep", type=Path, help="folder for files that fail")
    parser.add_argument("files", type=Path, nargs="*", help="good models to damage, beside the small ones")
    arguments = parser.parse_args()
    models = seed_models() | {str(path): path.read_bytes() for path in arguments.files}
    start = time.monotonic()
    counts, failures = run(arguments.seed, arguments.count, models, keep=arguments.keep)
    print("\n".join(failures))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{arguments.count} files in {time.monotonic() - start:.0f} s: {outcomes}, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
