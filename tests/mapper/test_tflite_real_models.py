# SPDX-License-Identifier: Apache-2.0
"""Two public models, every layer, against LiteRT's reference kernels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the reference of TFLite files (extra `test`)")

from tilewright_mapper.passes import canonicalize
from tilewright_mapper.reference_run import reference_run
from tilewright_mapper.tflite_import import import_tflite

from .real_models import models_folder, real_model
from .tflite_cases import graph_inputs, tflite_outputs
from .tflite_models import Reference

Int8 = npt.NDArray[np.int8]


def photographs() -> Int8:
    """All CIFAR-10 images that lie beside the models, as ResNet8 takes them."""
    path = models_folder() / "cifar10_test_jpeg75_200.npz"
    pixels: npt.NDArray[np.uint8] = np.load(path)["x"]
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def recordings() -> Int8:
    """One real input of the keyword spotter, and 200 random ones."""
    real = np.load(models_folder() / "reference_inputs.npz")["kws_class5_int8_49x10"]
    noise = np.random.default_rng(5).integers(-128, 128, (200, 49, 10, 1)).astype(np.int8)
    return np.concatenate([real.reshape(1, 49, 10, 1), noise])


MODELS: dict[str, tuple[Callable[[], Int8], int]] = {
    "pretrainedResnet_quant.tflite": (photographs, 16),
    "kws_ref_model.tflite": (recordings, 13),
}
"""Inputs of each model, and the number of its operators."""


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_equal(name: str, record_property: Callable[[str, object], None]) -> None:
    data = real_model(name)
    inputs, operators = MODELS[name]
    x = inputs()
    runs = Reference(data)
    expected: dict[str, list[npt.NDArray[Any]]] = {}
    for image in x:
        for tensor, y in runs.run(image[None]).items():
            expected.setdefault(tensor, []).append(y)
    layers = {tensor: np.concatenate(parts) for tensor, parts in expected.items()}
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
