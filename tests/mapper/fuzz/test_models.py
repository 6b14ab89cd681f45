# SPDX-License-Identifier: Apache-2.0
"""Damaged model files: an error or the framework's own numbers, soon; ``fuzz_judge`` says what is demanded."""

import os
import struct

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

pytest.importorskip("onnxruntime", reason="onnxruntime is the reference of ONNX files (extra `test`)")

import onnx

from tilewright_hdl.errors import ModelError
from tilewright_mapper.onnx.importer import import_onnx
from tilewright_mapper.passes import canonicalize

from ..onnx.models import FLOAT
from ..tflite.real_models import real_model
from .frameworks import ONNX, TFLITE, Framework
from .judge import Difference, judge, run
from .onnx import QOPERATOR
from .oracle import Oracle, run_litert


@pytest.mark.parametrize("framework", [TFLITE, ONNX], ids=["tflite", "onnx"])
def test_the_seeds_are_served_and_equal(framework: Framework) -> None:
    with framework.oracle() as oracle:
        results = {name: judge(model, framework, oracle) for name, model in framework.seed_models().items()}
    others = {name for name, result in results.items() if result != "equal"}
    assert others == {name for name in results if name.startswith("float")}
    assert {results[name] for name in others} <= {"not compared"}


class Wrong(Oracle):
    """LiteRT with a last value that is one off."""

    def run(self, model: bytes, inputs: list[npt.NDArray[np.generic]]) -> list[npt.NDArray[np.generic]] | str:
        results = super().run(model, inputs)
        assert not isinstance(results, str)
        results[-1].reshape(-1)[-1] ^= 1
        return results


def test_one_value_that_differs_is_found() -> None:
    with (
        Wrong(run_litert, "ai_edge_litert.interpreter") as oracle,
        pytest.raises(Difference, match=r"1 of 120 values differ"),
    ):
        judge(TFLITE.seeds["conv"](), TFLITE, oracle)


def test_a_model_that_ends_the_reference_is_answered() -> None:
    model = TFLITE.seeds["relu"]()
    with TFLITE.oracle() as oracle:
        assert isinstance(oracle.run(b"no model", []), str)
        assert oracle.ask(os._exit, 1) == "crash"
        assert judge(model, TFLITE, oracle) == "equal"


def test_damaged_small_models() -> None:
    counts, failures = run(TFLITE, 1, 500)
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 100
    assert counts["refused"] > 100


def test_damaged_onnx_models() -> None:
    counts, failures = run(ONNX, 1, 300)
    assert not failures, "\n".join(failures)
    assert counts["not compared"] > 20
    assert counts["refused"] > 100


def test_damaged_onnx_models_of_integers() -> None:
    counts, failures = run(ONNX, 2, 300, {name: build() for name, build in QOPERATOR.items()})
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 30
    assert counts["refused"] > 100


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0x7F800000, 0xFF7FFFFF])
def test_a_bias_that_is_no_number_is_refused(bits: int) -> None:
    proto = onnx.ModelProto.FromString(ONNX.seeds["float convolution"]())
    bias = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [6] and tensor.data_type == FLOAT)
    bias.raw_data = struct.pack("<I", bits) * 6
    with pytest.raises(ModelError, match=r"Bias of .* must fit int32"):
        canonicalize(import_onnx(proto.SerializeToString()))


@pytest.mark.parametrize("name", ["kws_ref_model.tflite", "pretrainedResnet_quant.tflite"])
def test_damaged_real_models(name: str) -> None:
    counts, failures = run(TFLITE, 2, 30, {name: real_model(name)})
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 5
    assert counts["refused"] > 5


@pytest.mark.slow
def test_five_thousand_damaged_models() -> None:
    counts, failures = run(TFLITE, 3, 5000)
    assert not failures, "\n".join(failures)
    assert counts["equal"] > 1000
