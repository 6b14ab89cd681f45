# SPDX-License-Identifier: Apache-2.0
"""TFLite files with many entries that all lead to one place, so that little text claims much work."""

import itertools
import time
from typing import Any

import flatbuffers
import numpy as np
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")


from tilewright_hdl.errors import ModelFileError
from tilewright_mapper.tflite.file import read_tflite

from .changes import changed, refused
from .models import ModelBuilder, schema


def aliased(count: int, *, name: int = 0, scales: int = 0, constant: int = 0, operators: int = 0) -> bytes:
    """File of ``count`` tensors (or operators) that all are one table, with a name, scales or data of these lengths."""
    builder = flatbuffers.Builder(1024)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ABS
    part = schema.TensorT()
    part.shape, part.type = [max(constant, scales, 1)], schema.TensorType.INT8
    part.name = "n" * name
    part.buffer = int(constant > 0)
    if scales:
        part.quantization = schema.QuantizationParametersT()
        part.quantization.scale = np.ones(scales, np.float32)
        part.quantization.zeroPoint = np.zeros(scales, np.int64)
    buffer = schema.BufferT()
    buffer.data = np.zeros(constant, np.uint8)
    step = schema.OperatorT()
    step.inputs, step.outputs = [0], []
    tables = {
        "codes": code.Pack(builder),
        "tensor": part.Pack(builder),
        "empty": schema.BufferT().Pack(builder),
        "buffer": buffer.Pack(builder),
        "operator": step.Pack(builder),
    }

    def vector(names: list[str]) -> int:
        builder.StartVector(4, len(names), 4)
        for each in reversed(names):
            builder.PrependUOffsetTRelative(tables[each])
        return int(builder.EndVector())

    tensors, steps = vector(["tensor"] * count), vector(["operator"] * operators)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    schema.SubGraphAddOperators(builder, steps)
    tables["graph"] = schema.SubGraphEnd(builder)
    codes, graphs, buffers = vector(["codes"]), vector(["graph"]), vector(["empty", "buffer"])
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_many_entries_that_lead_to_one_table() -> None:
    assert "4 steps for each byte, but take more" in refused(aliased(5_000))


def test_many_tensors_with_one_name() -> None:
    assert "names and quantization of its" in refused(aliased(500, name=100_000))


def test_many_tensors_with_one_array_of_scales() -> None:
    assert "names and quantization of its" in refused(aliased(500, scales=100_000))


def test_many_tensors_with_one_array_of_data_cost_nothing() -> None:
    start = time.process_time()
    with pytest.raises(ModelFileError, match="inputs of the network"):
        read_tflite(aliased(1_000, constant=1_000_000))
    assert time.process_time() - start < 1


def test_many_operators_that_read_one_constant() -> None:
    def change(model: Any) -> None:
        first = model.subgraphs[0].operators[0]
        first.inputs = [0, 1, 2] + [1] * 20_000

    def long(model: Any) -> None:
        change(model)
        first = model.subgraphs[0].tensors[1]
        first.shape, first.quantization = [1_000_000], None
        model.buffers[first.buffer].data = np.zeros(1_000_000, np.uint8)

    assert "constants that operators up to operator 0 (CONV_2D) read must be at most 16 times" in refused(changed(long))


def test_the_largest_file_is_refused_in_a_second() -> None:
    data = aliased(1_000_000)
    start = time.process_time()
    with pytest.raises(ModelFileError):
        read_tflite(data)
    assert time.process_time() - start < 1


def test_a_network_of_a_thousand_operators_is_read() -> None:
    builder = ModelBuilder()
    tensors = [builder.tensor((1, 4), "int8", scale=0.5) for _ in range(1_001)]
    for before, after in itertools.pairwise(tensors):
        builder.op("ABS", [before], [after])
    assert len(read_tflite(builder.bytes(tensors[:1], tensors[-1:])).operators) == 1_000
