# SPDX-License-Identifier: Apache-2.0
"""MobileNetV1 of MLPerf Tiny: visual wake words."""

import torch
from torch import nn

from .layers import ConvNorm, initialize

__all__ = ["MobileNet"]

STEM = 8
# Output channels and stride of each pair of depthwise and pointwise layers, a quarter of the original's channels.
PAIRS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))


class MobileNet(nn.Module):
    """MobileNetV1 with a quarter of its channels, after Howard et al., MobileNets, 2017.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        inputs = [STEM, *(outputs for outputs, _ in PAIRS)]
        self.depthwise = nn.ModuleList(
            ConvNorm(channels, channels, 3, stride=stride, groups=channels)
            for channels, (_, stride) in zip(inputs, PAIRS, strict=False)
        )
        self.pointwise = nn.ModuleList(
            ConvNorm(channels, outputs, 1) for channels, (outputs, _) in zip(inputs, PAIRS, strict=False)
        )
        self.average = nn.AvgPool2d(3)
        self.classify = nn.Linear(inputs[-1], classes)
        initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 96, 96) to logits (N, classes)."""
        x = self.stem(x)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = pointwise(depthwise(x))
        return self.classify(self.average(x).flatten(1))  # type: ignore[no-any-return]
