# SPDX-License-Identifier: Apache-2.0
"""DS-CNN of MLPerf Tiny: keyword spotting."""

import torch
from torch import nn

from .layers import ConvNorm, initialize

__all__ = ["DsCnn"]

CHANNELS = 64
BLOCKS = 4


class DsCnn(nn.Module):
    """A wide kernel over time and frequency, then four pairs of depthwise and pointwise layers.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int = 12):
        super().__init__()
        self.stem = ConvNorm(1, CHANNELS, (10, 4), stride=2)
        self.depthwise = nn.ModuleList(ConvNorm(CHANNELS, CHANNELS, 3, groups=CHANNELS) for _ in range(BLOCKS))
        self.pointwise = nn.ModuleList(ConvNorm(CHANNELS, CHANNELS, 1) for _ in range(BLOCKS))
        self.after_stem, self.before_pool = nn.Dropout(0.2), nn.Dropout(0.4)
        self.average = nn.AvgPool2d((25, 5))
        self.classify = nn.Linear(CHANNELS, classes)
        initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 49, 10), time before frequency, to logits (N, classes)."""
        x = self.after_stem(self.stem(x))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = pointwise(depthwise(x))
        x = self.average(self.before_pool(x))
        return self.classify(x.flatten(1))  # type: ignore[no-any-return]
