# SPDX-License-Identifier: Apache-2.0
"""What the fuzz run needs of TFLite and of ONNX."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tilewright_mapper.graph import Graph
from tilewright_mapper.onnx.importer import import_onnx
from tilewright_mapper.tflite.file import read_tflite
from tilewright_mapper.tflite.importer import import_tflite

from .mutations import damage_bytes, damage_tables, with_shapes
from .onnx import ONNX_SEEDS, damage_messages
from .oracle import Oracle, run_litert, run_onnxruntime, shapes_by_litert
from .seeds import SEEDS

__all__ = ["ONNX", "TFLITE", "Framework"]

BYTES_SHARE = 0.25
REPAIRED_SHARE = 0.7
"""Of the mutants, and of those whose tables were changed."""


@dataclass(frozen=True)
class Framework:
    """A kind of model file.

    Members
    -------
    suffix : str
    read : callable
        From a file to a graph.
    seeds : dict
        Name of each small good model, and what builds it.
    inputs : callable
        Types and shapes of a file's inputs, as its framework takes them. The graph is that of the file.
    oracle : callable
        The framework itself.
    change : callable
        The file with some of its values changed.
    is_exact : callable
        Whether the framework computes a graph, which is canonical, by exact rules.
    """

    suffix: str
    read: Callable[[bytes], Graph]
    seeds: dict[str, Callable[[], bytes]]
    inputs: Callable[[bytes, Graph], list[tuple[str, tuple[int, ...]]]]
    oracle: Callable[[], Oracle]
    change: Callable[[random.Random, bytes, Oracle], bytes]
    is_exact: Callable[[Graph], bool]

    def damage(self, rng: random.Random, data: bytes, oracle: Oracle) -> bytes:
        """Damaged copy of a good file."""
        return damage_bytes(rng, data) if rng.random() < BYTES_SHARE else self.change(rng, data, oracle)

    def seed_models(self) -> dict[str, bytes]:
        """All seeds as files."""
        return {name: build() for name, build in self.seeds.items()}


def _tflite_inputs(data: bytes, graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    file = read_tflite(data)
    return [(file.tensors[index].dtype, file.tensors[index].shape) for index in file.inputs]


def _change_tflite(rng: random.Random, data: bytes, oracle: Oracle) -> bytes:
    """Changed tables. A good part of them get the shapes that LiteRT then gives to the results, or few would come past
    the check of shapes."""
    data = damage_tables(rng, data)
    if rng.random() >= REPAIRED_SHARE:
        return data
    shapes = oracle.ask(shapes_by_litert, data)
    return data if isinstance(shapes, str) else with_shapes(data, shapes)


def _onnx_inputs(data: bytes, graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    tensors = [graph.tensor(name) for name in graph.inputs]
    return [("uint8" if tensor.unsigned else tensor.dtype, (1, *tensor.shape)) for tensor in tensors]


def _integers_alone(graph: Graph) -> bool:
    """Whether there is no float between; onnxruntime adds floats in an order of its own."""
    return all(tensor.dtype == "int8" for tensor in graph.tensors.values())


TFLITE = Framework(
    suffix=".tflite",
    read=import_tflite,
    seeds=SEEDS,
    inputs=_tflite_inputs,
    oracle=lambda: Oracle(run_litert, "ai_edge_litert.interpreter"),
    change=_change_tflite,
    is_exact=lambda graph: True,
)

ONNX = Framework(
    suffix=".onnx",
    read=import_onnx,
    seeds=ONNX_SEEDS,
    inputs=_onnx_inputs,
    oracle=lambda: Oracle(run_onnxruntime, "onnxruntime"),
    change=lambda rng, data, oracle: damage_messages(rng, data),
    is_exact=_integers_alone,
)
