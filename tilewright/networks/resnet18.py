# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 for images of 224 x 224."""

import torch
from torch import nn

from .layers import ConvNorm, ResidualBlock, initialize

__all__ = ["ResNet18"]

# Input channels, output channels and stride of each residual block.
BLOCKS = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
          (512, 512, 1))


class ResNet18(nn.Module):
    """Eight residual blocks, after He et al., Deep Residual Learning for Image Recognition, 2015 (table 1, 18 layers).

    Shortcuts that change the shape are 1x1 convolutions with a norm (option B of the paper).

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.stem = ConvNorm(3, 64, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(
            ResidualBlock(inputs, outputs, stride=stride, padding=1, shortcut=_shortcut(inputs, outputs, stride))
            for inputs, outputs, stride in BLOCKS
        ))
        self.average = nn.AvgPool2d(7)
        self.classify = nn.Linear(512, classes)
        initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 224, 224) to logits (N, classes)."""
        x = self.blocks(self.pool(self.stem(x)))
        return self.classify(self.average(x).flatten(1))  # type: ignore[no-any-return]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return ConvNorm(inputs, outputs, 1, stride=stride, padding=0, relu=False)
