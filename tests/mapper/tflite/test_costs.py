# SPDX-License-Identifier: Apache-2.0
"""TFLite files whose operators ask for more than the file's size allows."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")

from tilewright_hdl.errors import ModelError
from tilewright_mapper.graph import Graph
from tilewright_mapper.tflite.importer import import_tflite

from ..fuzz.seeds import Chain
from .models import ModelBuilder

HUGE = 1 << 30


def imported(data: bytes) -> Graph:
    """The graph, after a check of how long and how much memory it took."""
    tracemalloc.start()
    start = time.process_time()
    try:
        return import_tflite(data)
    finally:
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - start < 5  # A second without the trace of memory, which takes most of it.
        assert memory < 64 << 20


def resized() -> bytes:
    chain = Chain((1, 1, 1, 1))
    chain.step("RESIZE_NEAREST_NEIGHBOR", (1, HUGE, 1, 1), chain.constant([HUGE, 1]), like=True)
    return chain.file()


def sliced() -> bytes:
    chain = Chain((1, HUGE, 1, 1))
    begin, end, strides = (chain.constant(part) for part in ([0, 0, 0, 0], [1, HUGE, 1, 1], [1, 2, 1, 1]))
    chain.step("STRIDED_SLICE", (1, HUGE // 2, 1, 1), begin, end, strides, like=True)
    return chain.file()


def split() -> bytes:
    chain = Chain((1, HUGE, 1, 1))
    axis, source = chain.constant([1]), chain.end
    outputs = [chain.activation((1, HUGE // 2, 1, 1), like=source) for _ in range(2)]
    chain.builder.op("SPLIT", [axis, source], outputs, num_splits=2)
    return chain.builder.bytes(chain.inputs, outputs)


def doubled() -> bytes:
    """A constant packed with itself again and again, to be a shape."""
    chain = Chain((1, 4))
    constant = chain.constant([1, 4])
    for power in range(1, 8):
        size = (8,) * power + (2,)
        packed = chain.builder.tensor(size, "int32")
        chain.builder.op("PACK", [constant] * 8, [packed], values_count=8, axis=0)
        constant = packed
    chain.step("RESHAPE", (1, 4), constant, like=True)
    return chain.file()


@pytest.mark.parametrize("build", [resized, sliced, split, doubled])
def test_indices_and_constants_that_grow_are_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ModelError, match="must be at most 1048576 elements together, but are more"):
        imported(build())


def test_claims_alone_cost_nothing() -> None:
    chain = Chain((1, HUGE // 64, 64, 1))
    chain.conv(1, 3)
    chain.step("PAD", (1, HUGE // 64 + 2, 65, 1), chain.constant([[0, 0], [1, 1], [0, 1], [0, 0]]), like=True)
    chain.step("ADD", (1, HUGE // 64 + 2, 65, 1), chain.end)
    chain.step("MEAN", (1, 1), chain.constant([1, 2]))
    assert imported(chain.file()).tensor("tensor_3").shape == (1, HUGE // 64, 64)


def test_many_tensors_of_one_name() -> None:
    builder = ModelBuilder()
    tensors = [builder.tensor((1, 4), "int8", scale=0.5, name="same") for _ in range(2_001)]
    for before, after in itertools.pairwise(tensors):
        builder.op("ABS", [before], [after])
    graph = imported(builder.bytes(tensors[:1], tensors[-1:]))
    assert len(graph.tensors) == 2_001


def test_names_stay_different() -> None:
    builder = ModelBuilder()
    tensors = [builder.tensor((1, 4), "int8", scale=0.5, name=name) for name in ("a", "a#2", "a", "a", "a#2")]
    for before, after in itertools.pairwise(tensors):
        builder.op("ABS", [before], [after])
    graph = imported(builder.bytes(tensors[:1], tensors[-1:]))
    assert set(graph.tensors) == {"a", "a#2", "a#3", "a#4", "a#2#2"}
    assert np.unique([node.name for node in graph]).size == 4
