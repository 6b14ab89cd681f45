# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies of TFLite models of one operator, with inputs.

Each case is one that LiteRT's reference kernels run and that the importer serves, so a refusal is a failure.
"""

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from tilewright_sim.tflite_functions import TABLE_OPERATORS

from . import case_chains as chains
from . import case_elements as elements
from . import case_layers as layers
from . import case_movement as movement
from .case import Case, Draw, graph_inputs, tflite_outputs

__all__ = ["CASES", "Case", "graph_inputs", "tflite_outputs"]


def _strategy(build: Callable[..., Case], **options: Any) -> st.SearchStrategy[Case]:
    @st.composite
    def case(draw: Draw) -> Case:
        return build(draw, **options)

    return case()


CASES: Mapping[str, st.SearchStrategy[Case]] = {
    "CONV_2D": _strategy(layers.convolution, depthwise=False),
    "CONV_2D of groups": _strategy(layers.convolution, depthwise=False, grouped=True),
    "DEPTHWISE_CONV_2D": _strategy(layers.convolution, depthwise=True),
    "FULLY_CONNECTED": _strategy(layers.fully_connected),
    "sums that wrap around": _strategy(layers.wrapping_sums),
    "PAD and CONV_2D": _strategy(layers.pad_and_convolution),
    **{kind: _strategy(elements.binary, kind=kind) for kind in ("ADD", "SUB", "MUL")},
    **{kind: _strategy(elements.function, kind=kind) for kind in sorted(TABLE_OPERATORS)},
    "SOFTMAX": _strategy(elements.softmax),
    "QUANTIZE": _strategy(elements.quantize),
    "DEQUANTIZE": _strategy(elements.dequantize),
    "AVERAGE_POOL_2D": _strategy(layers.pool, kind="AVERAGE_POOL_2D"),
    "MAX_POOL_2D": _strategy(layers.pool, kind="MAX_POOL_2D"),
    "MEAN": _strategy(layers.mean),
    "PAD": _strategy(layers.pad),
    "RESIZE_NEAREST_NEIGHBOR": _strategy(layers.resize),
    "RESHAPE": _strategy(movement.reshape),
    "SQUEEZE": _strategy(movement.squeeze),
    "EXPAND_DIMS": _strategy(movement.expand_dims),
    "CONCATENATION": _strategy(movement.concatenation),
    "TRANSPOSE": _strategy(movement.transpose),
    "STRIDED_SLICE": _strategy(movement.strided_slice),
    "SLICE": _strategy(movement.slice_),
    "SPLIT": _strategy(movement.split),
    "PACK": _strategy(movement.pack),
    "UNPACK": _strategy(movement.unpack),
    "several": _strategy(chains.chain),
}
"""Strategy of each operator."""
