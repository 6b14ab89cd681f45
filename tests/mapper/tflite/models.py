# SPDX-License-Identifier: Apache-2.0
"""Small TFLite models, built operator by operator, and what LiteRT's reference kernels make of them.

``ai-edge-litert`` is asked for twice: its schema writes the file, and its interpreter (``BUILTIN_REF``) is the oracle.
"""

from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

__all__ = ["ModelBuilder", "Reference", "all_outputs", "reference", "schema"]

OPTIONS = {
    "ABS": "AbsOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "EXP": "ExpOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GELU": "GeluOptions",
    "HARD_SWISH": "HardSwishOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "NEG": "NegOptions",
    "PACK": "PackOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "SQUEEZE": "SqueezeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
    "UNPACK": "UnpackOptions",
}
"""Table of options of each operator that has one; an operator that is not here is written without options."""

ENUMS = {
    "padding": schema.Padding,
    "fused_activation_function": schema.ActivationFunctionType,
    "weights_format": schema.FullyConnectedOptionsWeightsFormat,
}
"""Options whose value may be given by its name, such as ``padding="SAME"``."""

EXTENDED_CODE = 127
"""What the old one-byte code of an operator says where the operator has a newer, larger code."""


class ModelBuilder:
    """A model of one subgraph.

    Tensors and operators get their numbers in the order in which they are added; an operator's number is its place
    in the order of execution.
    """

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # Buffer 0 is the empty one, of tensors without data.
        self._codes: list[Any] = []
        self._operators: list[Any] = []

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str,
        *,
        scale: npt.ArrayLike | None = None,
        zero_point: npt.ArrayLike = 0,
        data: npt.ArrayLike | None = None,
        axis: int = 0,
        name: str | None = None,
    ) -> int:
        """Add a tensor.

        Parameters
        ----------
        shape : tuple of int
            TFLite's order: batch first, channels last.
        dtype : str
            Numpy's name, such as ``"int8"``.
        scale, zero_point : float or array of shape (shape[axis],), optional
            Quantization: per tensor, or per channel along ``axis``. One zero point may serve all scales.
        data : array, optional
            Values, of ``shape``: the tensor is a constant.
        name : str, optional
            Unique; ``tensor_<number>`` unless given.

        Returns
        -------
        int
            Number of the tensor.
        """
        tensor = schema.TensorT()
        tensor.shape = list(shape)
        tensor.type = getattr(schema.TensorType, dtype.upper())
        tensor.name = name if name is not None else f"tensor_{len(self._tensors)}"
        tensor.hasRank = True
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            quantization.scale = scales
            quantization.zeroPoint = np.broadcast_to(np.asarray(zero_point, np.int64), scales.shape).copy()
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        if data is not None:
            values = np.asarray(data).astype(dtype)
            if values.shape != tuple(shape):
                raise ValueError(f"Data of {tensor.name} must have shape {tuple(shape)}, not {values.shape}")
            tensor.buffer = len(self._buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self._buffers.append(buffer)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def op(self, kind: str, inputs: list[int], outputs: list[int], *, version: int = 1, **options: Any) -> int:
        """Add an operator and return its number.

        Parameters
        ----------
        kind : str
            Name of the built-in operator in the schema, such as ``"CONV_2D"``; ``"CUSTOM:name"`` for a custom one.
        inputs, outputs : list of int
            Numbers of tensors; -1 for an optional input that is absent.
        version : int
            Of the kernel. The interpreter has version 1 of every operator, and no kernel that is used here looks at it.
        **options
            Fields of the operator's table of options, named as in the schema (``stride_h``); enumerations by name.
        """
        builtin, _, custom = kind.partition(":")
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(schema.BuiltinOperator, builtin), custom, version)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        table = OPTIONS.get(kind)
        if table is None and options:
            raise TypeError(
                f"Operator {kind} has no options in this builder, but got {sorted(options)}: add to OPTIONS"
            )
        if table is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = _options(table, options)
        self._operators.append(operator)
        return len(self._operators) - 1

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The model file, whose inputs and outputs are these tensors."""
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version = 3
        model.description = "Built by the tests"
        model.operatorCodes, model.buffers, model.subgraphs = self._codes, self._buffers, [graph]
        return _pack(model)

    def _code(self, builtin: int, custom: str, version: int) -> int:
        """Number of the operator code, which operators of one kind share."""
        wanted = (builtin, custom or None, version)
        for index, code in enumerate(self._codes):
            if (code.builtinCode, code.customCode, code.version) == wanted:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.customCode, code.version = wanted
        code.deprecatedBuiltinCode = min(builtin, EXTENDED_CODE)
        self._codes.append(code)
        return len(self._codes) - 1


def _options(table: str, options: dict[str, Any]) -> Any:
    """Object of the table of options with the given fields; the others keep the schema's defaults."""
    result = getattr(schema, f"{table}T")()
    for name, value in options.items():
        first, *rest = name.split("_")
        field = first + "".join(word.capitalize() for word in rest)
        if not hasattr(result, field):
            raise TypeError(f"{table} has no field {name!r}; it has {sorted(vars(result))}")
        setattr(result, field, getattr(ENUMS[name], value) if isinstance(value, str) else value)
    return result


def _pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def all_outputs(model: bytes) -> bytes:
    """The same model, with every operator's outputs as outputs of the model, in order of execution."""
    unpacked = schema.ModelT.InitFromPackedBuf(bytearray(model), 0)
    (graph,) = unpacked.subgraphs
    graph.outputs = [int(index) for operator in graph.operators for index in operator.outputs]
    return _pack(unpacked)


class Reference:
    """The interpreter with LiteRT's reference kernels (``BUILTIN_REF``) on one model; runs any number of times."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=all_outputs(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
        )
        self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()
        names = [str(detail["name"]) for detail in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"Outputs of operators must have different names to be told apart, not {names}")

    def run(self, *inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Every operator's outputs by the tensor's name, in order of execution, for the model's inputs in order."""
        for detail, values in zip(self.inputs, inputs, strict=True):
            self._interpreter.set_tensor(detail["index"], values)
        self._interpreter.invoke()
        return {str(detail["name"]): self._interpreter.get_tensor(detail["index"]) for detail in self.outputs}


def reference(model: bytes, *inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """One run of :class:`Reference`."""
    return Reference(model).run(*inputs)
