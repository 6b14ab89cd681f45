# SPDX-License-Identifier: Apache-2.0
"""Public model files that lie beside the project and are no part of it."""

import os
from pathlib import Path

import pytest

__all__ = ["models_folder", "real_model"]


def models_folder() -> Path:
    """Folder of the files: ``$TILEWRIGHT_MODELS``, or ``shared/models`` beside the project."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "models"
    return Path(os.environ.get("TILEWRIGHT_MODELS", beside))


def real_model(name: str) -> bytes:
    """Bytes of one file; the test is skipped where it is absent."""
    path = models_folder() / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {models_folder()}; $TILEWRIGHT_MODELS names the folder")
    return path.read_bytes()
