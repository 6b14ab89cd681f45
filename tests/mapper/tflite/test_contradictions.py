# SPDX-License-Identifier: Apache-2.0
"""TFLite files that contradict themselves, or hold what has no meaning here: each gives its own message."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite", reason="tflite has the schema of TFLite files (extra `tflite`)")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert writes the files of this test (extra `test`)")

from .changes import Change, buffer, changed, graph, operator, option, quantization, refused, tensor, whole
from .models import schema


def swapped(model: Any) -> None:
    model.subgraphs[0].operators.reverse()


def two_subgraphs(model: Any) -> None:
    model.subgraphs *= 2


def bad_code(model: Any) -> None:
    model.operatorCodes[0].deprecatedBuiltinCode = model.operatorCodes[0].builtinCode = -3


CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "version": (whole(version=2), "version of the schema must be 3, was 2"),
    "no subgraph": (whole(subgraphs=[]), "number of subgraphs must be 1, was 0; control flow"),
    "two subgraphs": (two_subgraphs, "number of subgraphs must be 1, was 2; control flow"),
    "no buffers": (whole(buffers=None), "buffer of tensor 0 ('x') must be one of the file's 0 buffers, was 0"),
    "no tensors": (graph(tensors=None), "inputs of the network must be of the file's 0 tensors, was number 0"),
    "no codes": (whole(operatorCodes=None), "code of operator 0 must be one of the file's 0 operator codes, was 0"),
    "negative code": (bad_code, "operator code 0 must be 0 or more, was -3"),
    "code index": (operator(1, opcodeIndex=2), "code of operator 1 must be one of the file's 2 operator codes, was 2"),
    "buffer index": (tensor(3, buffer=9), "buffer of tensor 3 ('y') must be one of the file's 3 buffers, was 9"),
    "buffer too short": (
        buffer(2, data=np.zeros(8, np.uint8)),
        "data of tensor 2 ('b') must be 12 bytes, as its shape (3,) of int32 takes, was 8 bytes",
    ),
    "buffer too long": (buffer(2, data=np.zeros(13, np.uint8)), "must be 12 bytes, as its shape (3,) of int32 takes"),
    "buffer missing": (
        buffer(2, data=None),
        "inputs of operator 0 (CONV_2D) must be made before it reads them, was te",
    ),
    "buffer outside": (buffer(2, offset=4096, size=12), "data of tensor 2 ('b') must be in the file itself, was outsi"),
    "negative size": (tensor(0, shape=[1, -4, 4, 2]), "shape of tensor 0 ('x') must be sizes of 0 or more, was (1, -4"),
    "huge": (
        tensor(0, shape=[2**31 - 1] * 4),
        "number of elements of tensor 0 ('x') must be at most 2147483647, was 2",
    ),
    "wraps to 0": (tensor(0, shape=[65536] * 4), "number of elements of tensor 0 ('x') must be at most 2147483647"),
    "constant of 4 GB": (
        tensor(2, shape=[2**30], quantization=None),
        "data of tensor 2 ('b') must be 4294967296 bytes",
    ),
    "rank": (tensor(0, shape=[1] * 9), "number of dimensions of tensor 0 ('x') must be at most 8, was 9"),
    "signature's rank": (tensor(0, shapeSignature=[-1, 4]), "shape signature of tensor 0 ('x') must be 4 long, was 2"),
    "signature": (
        tensor(0, shapeSignature=[-1, 4, 5, 2]),
        "shape signature of tensor 0 ('x') must be shape (1, 4, 4, 2) with -1 for sizes left open, was (-1, 4, 5, 2)",
    ),
    "unknown type": (tensor(0, type=99), "type of tensor 0 ('x') must be a number's type, was 99"),
    "string": (tensor(0, type=schema.TensorType.STRING), "must be a number's type, was string"),
    "resource": (tensor(0, type=schema.TensorType.RESOURCE), "must be a number's type, was resource"),
    "variant": (tensor(0, type=schema.TensorType.VARIANT), "must be a number's type, was variant"),
    "bfloat16": (tensor(0, type=schema.TensorType.BFLOAT16), "must be a number's type, was bfloat16"),
    "variable": (tensor(3, isVariable=True), "tensor 3 ('y') must be computed from the input alone, was a variable"),
    "sparse": (tensor(1, sparsity=schema.SparsityParametersT()), "tensor 1 ('w') must be dense, was sparse"),
    "name": (tensor(1, name=b"\xff\xfe"), "name of tensor 1 must be text in UTF-8, was b'\\xff\\xfe'"),
    "scale nan": (
        quantization(0, scale=[np.nan]),
        "scale of tensor 0 ('x') must be finite and 1.17549e-38 or more, wa",
    ),
    "scale inf": (quantization(0, scale=[np.inf]), "scale of tensor 0 ('x') must be finite and 1.17549e-38 or more"),
    "scale zero": (quantization(0, scale=[0.0]), "scale of tensor 0 ('x') must be finite and 1.17549e-38 or more, was"),
    "scale negative": (quantization(1, scale=[1.0, -1.0, 2.0]), "scale of tensor 1 ('w') must be finite and"),
    "scale denormal": (quantization(0, scale=[1e-40]), "scale of tensor 0 ('x') must be finite and 1.17549e-38 or mor"),
    "zero point": (
        quantization(0, zeroPoint=[128]),
        "zero point of tensor 0 ('x') must be -128 to 127, as int8 is, wa",
    ),
    "zero point of int32": (
        quantization(2, zeroPoint=[0, 2**31, 0]),
        "zero point of tensor 2 ('b') must be -2147483648 to 2147483647, as int32 is, was 2147483648",
    ),
    "two scales": (
        quantization(1, scale=[1.0, 2.0]),
        "number of scales of tensor 1 ('w') must be 1 or the size of dim",
    ),
    "no zero points": (quantization(1, zeroPoint=None), "number of zero points of tensor 1 ('w') must be 3, one for e"),
    "one zero point": (
        quantization(1, zeroPoint=[0]),
        "number of zero points of tensor 1 ('w') must be 3, one for eac",
    ),
    "axis": (quantization(1, quantizedDimension=4), "quantized_dimension of tensor 1 ('w') must be 0 to 3, was 4"),
    "negative axis": (quantization(1, quantizedDimension=-1), "quantized_dimension of tensor 1 ('w') must be 0 to 3"),
    "details": (
        quantization(0, detailsType=1, details=schema.CustomQuantizationT()),
        "quantization of tensor 0 ('x') must be scales and zero points alone, was one with details of its own",
    ),
    "input index": (operator(0, inputs=[0, 1, 5]), "inputs of operator 0 (CONV_2D) must be of the file's 5 tensors"),
    "input -2": (operator(0, inputs=[0, 1, -2]), "inputs of operator 0 (CONV_2D) must be of the file's 5 tensors, was"),
    "output -1": (
        operator(0, outputs=[-1]),
        "outputs of operator 0 (CONV_2D) must be of the file's 5 tensors, was num",
    ),
    "output twice": (
        operator(1, outputs=[3]),
        "outputs of operator 1 (SOFTMAX) must be made by it alone, was tensor 3",
    ),
    "output twice at once": (operator(1, outputs=[4, 4]), "outputs of operator 1 (SOFTMAX) must be made by it alone"),
    "output is the input": (operator(1, outputs=[0]), "outputs of operator 1 (SOFTMAX) must be made by it alone, was"),
    "output is constant": (
        operator(1, outputs=[2]),
        "outputs of operator 1 (SOFTMAX) must be made by it alone, was te",
    ),
    "order": (swapped, "inputs of operator 0 (SOFTMAX) must be made before it reads them, was tensor 3, which is not"),
    "cycle": (
        operator(1, inputs=[4]),
        "inputs of operator 1 (SOFTMAX) must be made before it reads them, was tensor 4",
    ),
    "no inputs": (graph(inputs=[]), "inputs of the network must be one or more tensors, was none"),
    "no outputs": (graph(outputs=None), "outputs of the network must be one or more tensors, was none"),
    "inputs twice": (graph(inputs=[0, 0]), "inputs of the network must be different tensors, was [0, 0]"),
    "outputs twice": (graph(outputs=[4, 4]), "outputs of the network must be different tensors, was [4, 4]"),
    "constant input": (graph(inputs=[0, 1]), "input 1 of the network must be a tensor without data, was a constant"),
    "network's input": (graph(inputs=[-1]), "inputs of the network must be of the file's 5 tensors, was number -1"),
    "output not made": (graph(operators=[]), "output 4 of the network must be made by an operator, was made by none"),
    "options of another": (
        operator(1, builtinOptionsType=schema.BuiltinOptions.ConcatenationOptions),
        "options of operator 1 (SOFTMAX) must be SoftmaxOptions or NONE, was ConcatenationOptions",
    ),
    "unknown options": (operator(1, builtinOptionsType=200), "must be SoftmaxOptions or NONE, was 200"),
    "padding": (option(0, padding=2), "padding of operator 0 (CONV_2D) must be one of SAME, VALID, was number 2"),
    "activation": (
        option(0, fusedActivationFunction=9),
        "must be one of NONE, RELU, RELU_N1_TO_1, RELU6, TANH, SIGN_B",
    ),
    "stride": (option(0, strideH=0), "stride_h of operator 0 (CONV_2D) must be 1 or more, was 0"),
    "dilation": (option(0, dilationWFactor=-1), "dilation_w_factor of operator 0 (CONV_2D) must be 1 or more, was -1"),
    "beta nan": (option(1, beta=np.nan), "beta of operator 1 (SOFTMAX) must be a finite number, was nan"),
    "beta inf": (option(1, beta=np.inf), "beta of operator 1 (SOFTMAX) must be a finite number, was inf"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions(case: str) -> None:
    change, message = CONTRADICTIONS[case]
    assert message in refused(changed(change))
