# SPDX-License-Identifier: Apache-2.0
"""How far another rounding rule is from the one of a model's framework, measured on data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright_hdl.numerics import Rounding

from .graph import Dequantize, Graph, Quantize, Rounded
from .reference_run import by_name, reference_run
from .rounding import with_rounding

__all__ = ["Difference", "Distance", "distance", "random_inputs"]

Array = npt.NDArray[Any]
BATCH = 64
"""Images that are run at once: all values of all layers are kept."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One tensor by two rules.

    Parameters
    ----------
    tensor : str
    values : int
        Compared.
    differing : int
    largest : int or float
        Largest absolute difference: steps of an int8 tensor.
    """

    tensor: str
    values: int
    differing: int
    largest: int | float


@dataclass(frozen=True, kw_only=True)
class Distance:
    """What :func:`distance` measured.

    Parameters
    ----------
    layers : tuple of Difference
        Results of the nodes that rescale, each of them given the inputs that it has by the framework's own rule.
    outputs : tuple of Difference
        Outputs of the whole network, so with all that adds up. Where a Dequantize makes one, its int8 input instead.
    """

    layers: tuple[Difference, ...]
    outputs: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Sums over the layers and over the outputs, as plain data."""
        return {
            what: {
                "values": sum(d.values for d in differences),
                "differing": sum(d.differing for d in differences),
                "largest": max((d.largest for d in differences), default=0),
            }
            for what, differences in (("layers", self.layers), ("outputs", self.outputs))
        }


def distance(
    graph: Graph, x: Array | tuple[Array, ...] | Mapping[str, Array], *, rounding: Rounding = Rounding.SINGLE
) -> Distance:
    """Compare a graph, whose nodes round by the rule of their framework, with itself under another rule.

    Parameters
    ----------
    graph : Graph
        Canonical.
    x : array, tuple of arrays or mapping of input name to array
        As for :func:`tilewright_mapper.reference_run.reference_run`.
    rounding : Rounding
        The other rule.

    Raises
    ------
    ModelError
        If a rescale cannot be expressed under ``rounding``.
    """
    other = with_rounding(graph, rounding)
    nodes = [node for node in other if isinstance(node, Rounded)]
    alone = [_alone(other, node) for node in nodes]
    ends = tuple(dict.fromkeys(_integers_of(graph, name) for name in graph.outputs))
    layers, outputs = _Tally(), _Tally()
    for batch in _batches(by_name(graph, x)):
        golden = reference_run(graph, batch)
        known = {**batch, **golden}
        for single in alone:
            (result,) = single.outputs
            layers.add(result, golden[result], reference_run(single, {n: known[n] for n in single.inputs})[result])
        whole = reference_run(other, batch)
        for name in ends:
            if name in golden:
                outputs.add(name, golden[name], whole[name])
    return Distance(layers=layers.results(), outputs=outputs.results())


def random_inputs(graph: Graph, images: int, seed: int = 0) -> dict[str, Array]:
    """Inputs for a graph where no data is at hand: int8 uniform, floats normal, within what their Quantize can hold."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for name in graph.inputs:
        tensor, shape = graph.tensor(name), (images, *graph.tensor(name).shape)
        if tensor.dtype == "int8":
            inputs[name] = rng.integers(-128, 128, shape).astype(np.int8)
            continue
        readers = [node for node in graph if isinstance(node, Quantize) and node.input == name]
        scale, zero_point = graph.tensor(readers[0].output).quantization if readers else (1.0, 0)
        inputs[name] = ((rng.normal(0, 50, shape) - zero_point) * scale).astype(tensor.dtype)
    return inputs


def _alone(graph: Graph, node: Rounded) -> Graph:
    """A graph of one node."""
    names = tuple(dict.fromkeys(node.inputs))
    tensors = {name: graph.tensor(name) for name in (*names, *node.outputs)}
    return Graph(nodes=(node,), tensors=tensors, inputs=names, outputs=node.outputs)


def _integers_of(graph: Graph, name: str) -> str:
    """The int8 tensor of which ``name`` is the dequantized form, else itself."""
    producer = graph.producers().get(name)
    return producer.input if isinstance(producer, Dequantize) else name


def _batches(named: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    count = len(next(iter(named.values())))
    for start in range(0, count, BATCH):
        yield {name: value[start : start + BATCH] for name, value in named.items()}


class _Tally:
    """Sums over batches."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()
        self._differing: Counter[str] = Counter()
        self._largest: dict[str, int | float] = {}

    def add(self, name: str, a: Array, b: Array) -> None:
        wide = np.int32 if a.dtype == np.int8 else np.float64
        differences = np.abs(a.astype(wide) - b.astype(wide))
        self._values[name] += a.size
        self._differing[name] += int(np.count_nonzero(differences))
        self._largest[name] = max(self._largest.get(name, 0), differences.max().item())

    def results(self) -> tuple[Difference, ...]:
        return tuple(
            Difference(tensor=name, values=count, differing=self._differing[name], largest=self._largest[name])
            for name, count in self._values.items()
        )
