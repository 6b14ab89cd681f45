# SPDX-License-Identifier: Apache-2.0
"""Kinds of model files. Imports nothing heavy: the command line reads it at every start."""

from enum import StrEnum

__all__ = ["MODEL_FILES", "Framework"]


class Framework(StrEnum):
    """Where a model comes from."""

    PYTORCH = "PyTorch"
    TFLITE = "TFLite"
    ONNX = "ONNX"


MODEL_FILES = {".pt2": Framework.PYTORCH, ".tflite": Framework.TFLITE, ".onnx": Framework.ONNX}
"""Framework by the end of a file's name."""
