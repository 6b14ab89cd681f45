# SPDX-License-Identifier: Apache-2.0
"""Public model files that lie beside the project and are no part of it, and inputs for them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

__all__ = ["expected_layers", "model_inputs", "models_folder", "real_model"]

Int8 = npt.NDArray[np.int8]


def models_folder() -> Path:
    """Folder of the files: ``$TILEWRIGHT_MODELS``, or ``shared/models`` beside the project."""
    beside = Path(__file__).resolve().parents[3].parent / "shared" / "models"
    return Path(os.environ.get("TILEWRIGHT_MODELS", beside))


def real_model(name: str) -> bytes:
    """Bytes of one file; the test is skipped where it is absent."""
    path = models_folder() / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {models_folder()}; $TILEWRIGHT_MODELS names the folder")
    return path.read_bytes()


def model_inputs(name: str) -> Int8:
    """All inputs that there are for a model."""
    return {"pretrainedResnet_quant.tflite": _photographs, "kws_ref_model.tflite": _recordings}[name]()


def _photographs() -> Int8:
    """All CIFAR-10 images that lie beside the models, as ResNet8 takes them."""
    pixels: npt.NDArray[np.uint8] = np.load(models_folder() / "cifar10_test_jpeg75_200.npz")["x"]
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def _recordings() -> Int8:
    """One real input of the keyword spotter, and 200 random ones."""
    real = np.load(models_folder() / "reference_inputs.npz")["kws_class5_int8_49x10"]
    noise = np.random.default_rng(5).integers(-128, 128, (200, 49, 10, 1)).astype(np.int8)
    return np.concatenate([real.reshape(1, 49, 10, 1), noise])


def expected_layers(data: bytes, x: Int8) -> dict[str, npt.NDArray[Any]]:
    """Every operator's results for a batch, by LiteRT's reference kernels."""
    from .models import Reference

    reference = Reference(data)
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for image in x:
        for name, y in reference.run(image[None]).items():
            parts.setdefault(name, []).append(y)
    return {name: np.concatenate(layers) for name, layers in parts.items()}
