# SPDX-License-Identifier: Apache-2.0
"""Two public models, every layer, against LiteRT's reference kernels."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.tflite.importer import import_tflite

from .cases import graph_inputs, tflite_outputs
from .real_models import expected_layers, model_inputs, real_model

OPERATORS = {"pretrainedResnet_quant.tflite": 16, "kws_ref_model.tflite": 13}
"""How many each model has."""


@pytest.mark.parametrize("name", OPERATORS)
def test_every_layer_is_equal(name: str, record_property: Callable[[str, object], None]) -> None:
    data = real_model(name)
    x, operators = model_inputs(name), OPERATORS[name]
    layers = expected_layers(data, x)
    assert len(layers) == operators
    graph = import_tflite(data)
    # Canonical form has lost the flattening in front of the fully connected layer, and nothing else.
    for form, count, kept in ((graph, 4, operators), (canonicalize(graph), len(x), operators - 1)):
        some = {tensor: y[:count] for tensor, y in layers.items()}
        ours = tflite_outputs(form, reference_run(form, graph_inputs(form, (x[:count],))), some)
        assert len(ours) == kept
        for tensor, y in ours.items():
            np.testing.assert_array_equal(y, some[tensor], err_msg=tensor)
    compared = sum(y.size for y in layers.values())
    record_property("compared_values", compared)
    print(f"{name}: {compared} values of {len(x)} inputs compared, 0 differ")
