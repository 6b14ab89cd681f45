# SPDX-License-Identifier: Apache-2.0
"""Autoencoder of MLPerf Tiny: anomaly detection."""

from itertools import pairwise

import torch
from torch import nn

from .layers import initialize

__all__ = ["Autoencoder"]

WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)


class Autoencoder(nn.Module):
    """Linear layers down to 8 numbers and up again, with batch norm and ReLU between them.

    Five frames of 128 mel bands go in. What the network cannot give back has a sound that it was not trained on.
    """

    def __init__(self) -> None:
        super().__init__()
        *hidden, last = pairwise(WIDTHS)
        self.layers = nn.Sequential()
        for inputs, outputs in hidden:
            self.layers.extend([nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()])
        self.layers.append(nn.Linear(*last))
        initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 640) to the same shape."""
        return self.layers(x)  # type: ignore[no-any-return]
