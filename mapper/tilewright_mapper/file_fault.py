# SPDX-License-Identifier: Apache-2.0
"""How the readers of model files complain."""

from tilewright_hdl.errors import ModelFileError

__all__ = ["fault"]


def fault(what: str, must: str, was: object, remedy: str = "export the model again") -> ModelFileError:
    """Error that says what is wrong with the file: ``what`` must be ``must``, but was ``was``."""
    return ModelFileError(f"Model file: {what} must be {must}, was {was}; {remedy}")
