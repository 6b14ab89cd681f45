# SPDX-License-Identifier: Apache-2.0
"""Each TFLite operator, imported, against LiteRT's reference kernels."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from hypothesis import HealthCheck, given, settings

from tilewright_mapper.graph import Unsupported
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.tflite.importer import import_tflite

from .cases import CASES, Case, graph_inputs, tflite_outputs


@pytest.mark.parametrize("operator", CASES)
def test_operator(operator: str) -> None:
    """As imported and in canonical form the graph gives the interpreter's values, to the bit."""

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(case=CASES[operator])
    def compare(case: Case) -> None:
        graph = import_tflite(case.model)
        assert not [node for node in graph if isinstance(node, Unsupported)], [str(node) for node in graph]
        expected = case.expected()
        for form in (graph, canonicalize(graph)):
            values = reference_run(form, graph_inputs(form, case.inputs))
            ours = tflite_outputs(form, values, expected)
            assert ours.keys() >= set(graph.outputs)
            for name, y in ours.items():
                np.testing.assert_array_equal(y, expected[name], err_msg=f"{name} of {[n.op for n in form]}")

    compare()
