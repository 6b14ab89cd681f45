# SPDX-License-Identifier: Apache-2.0
"""ResNet8 of MLPerf Tiny: image classification."""

import torch
from torch import nn

from .layers import ConvNorm, ResidualBlock, initialize

__all__ = ["ResNet8"]


class ResNet8(nn.Module):
    """Three residual stacks of 16, 32 and 64 channels.

    The shortcuts of the second and third are 1x1 convolutions with a bias and without a norm.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int = 10):
        super().__init__()
        self.stem = ConvNorm(3, 16, 3)
        self.stack1 = ResidualBlock(16, 16, stride=1, shortcut=nn.Identity())
        self.stack2 = ResidualBlock(16, 32, stride=2, shortcut=nn.Conv2d(16, 32, 1, stride=2))
        self.stack3 = ResidualBlock(32, 64, stride=2, shortcut=nn.Conv2d(32, 64, 1, stride=2))
        self.average = nn.AvgPool2d(8)
        self.classify = nn.Linear(64, classes)
        initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) to logits (N, classes)."""
        x = self.stack3(self.stack2(self.stack1(self.stem(x))))
        return self.classify(self.average(x).flatten(1))  # type: ignore[no-any-return]
