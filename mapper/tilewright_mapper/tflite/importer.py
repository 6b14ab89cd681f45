# SPDX-License-Identifier: Apache-2.0
"""From a TFLite file to a graph, operator by operator.

The graph computes what LiteRT's reference kernels (``BUILTIN_REF``) compute, to the bit: each node rescales by the rule
of its kernel. What those kernels refuse, misread or leave undefined is refused here too. An operator that is read but
not served becomes an ``Unsupported`` node, so that all of them can be reported at once.
"""

import numpy as np

from tilewright_hdl.errors import ModelError, itemized

from ..graph import Graph, Unsupported
from ..spec import verify
from .context import Call
from .file import read_tflite
from .model import TfliteModel, TfliteOperator
from .network import QUANTIZE_REMEDY, REPLACE_REMEDY, Network, Refused
from .operators import IMPORTERS, Importer

__all__ = ["import_tflite"]

MOST_ERRORS = 20
"""That one message lists."""

FLOATS = ("float16", "float32", "float64")


def import_tflite(data: bytes) -> Graph:
    """Graph of a quantized TFLite model.

    Parameters
    ----------
    data : bytes
        A ``.tflite`` file of int8 or uint8 activations.

    Returns
    -------
    Graph
        One image at a time. Tensors have the file's names and int8 values; ``unsigned`` and ``channels_last`` say how
        the file's arrays differ. Satisfies ``spec.ANY``.

    Raises
    ------
    ModelError
        The file is malformed (``ModelFileError``), contradicts itself, or has a batch other than 1. All that is found
        stands in one message.
    """
    model = read_tflite(data)
    network = Network(model)
    _check_ends(network)
    faults = [fault for operator in model.operators if (fault := _import(network, operator)) is not None]
    if faults:
        raise ModelError(itemized("The model contradicts itself, or what its framework can run", faults, MOST_ERRORS))
    graph = _graph(network)
    verify(graph, after="import")
    return graph


def _graph(network: Network) -> Graph:
    inputs, outputs = (
        tuple(network.name(index) for index in indices) for indices in (network.model.inputs, network.model.outputs)
    )
    made = {*inputs, *(name for node in network.nodes for name in node.outputs)}
    for name in outputs:
        if name not in made:
            raise ModelError(f"Output {name!r} must depend on the input, but never changes; leave it out of the model")
    # An operator that was left out may have described tensors of its own.
    tensors = {name: tensor for name, tensor in network.tensors.items() if name in made}
    return Graph(nodes=tuple(network.nodes), tensors=tensors, inputs=inputs, outputs=outputs)


def _check_ends(network: Network) -> None:
    """Define the inputs, and refuse a batch."""
    model = network.model
    for index in model.inputs:
        tensor = model.tensors[index]
        free = [axis for axis in tensor.open_sizes if axis > 0]
        if not tensor.shape or tensor.shape[0] != 1 or free:
            raise ModelError(
                f"Input {network.name(index)!r} must have a batch of 1 and sizes that are fixed, not shape "
                f"{[-1 if axis in tensor.open_sizes else size for axis, size in enumerate(tensor.shape)]}; convert the "
                "model with a batch of 1"
            )
        network.define(network.describe(index))


def _import(network: Network, operator: TfliteOperator) -> ModelError | None:
    """Add the nodes of one operator; the error if it is malformed."""
    call = Call(network, operator)
    added = len(network.nodes)
    fault: ModelError | None = None
    try:
        # Scales far apart give infinite factors, which are refused where they are made to integers.
        with np.errstate(over="ignore", invalid="ignore"):
            _importer(network.model, operator)(call)
        return None
    except Refused as refused:
        reason, remedy = refused.reason, refused.remedy
    except ModelError as error:
        fault = ModelError(str(error) if str(call) in str(error) else f"{call}: {error}")
        reason, remedy = str(error), REPLACE_REMEDY
    del network.nodes[added:]
    _leave_out(call, reason, remedy)
    return fault


def _importer(model: TfliteModel, operator: TfliteOperator) -> Importer:
    importer = IMPORTERS.get(operator.kind)
    if importer is not None:
        return importer
    dtypes = {model.tensors[index].dtype for index in (*operator.inputs, *operator.outputs) if index >= 0}
    if dtypes.intersection(FLOATS) and not dtypes.intersection(("int8", "uint8")):
        raise Refused("computes in floating point", QUANTIZE_REMEDY)
    raise Refused("is none of the operators that are served")


def _leave_out(call: Call, reason: str, remedy: str) -> None:
    """Add an Unsupported node, so that the graph stays whole."""
    network, operator = call.network, call.operator
    inputs = dict.fromkeys(network.name(i) for i in operator.inputs if i >= 0 and network.constant(i) is None)
    for index in operator.outputs:
        network.define(network.describe(index))
    network.nodes.append(
        Unsupported(
            name=call.name,
            inputs=tuple(inputs),
            outputs=tuple(network.name(index) for index in operator.outputs),
            provenance=call.provenance,
            reason=reason,
            remedy=remedy,
        )
    )
