# SPDX-License-Identifier: Apache-2.0
"""Layers that several networks have."""

import torch
from torch import nn

__all__ = ["ConvNorm", "ResidualBlock", "SamePad", "initialize", "same_padding"]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after an axis as TensorFlow's ``SAME`` has it: the odd pixel goes behind.

    The output has ``ceil(size / stride)`` pixels. Source: TensorFlow's documentation of ``tf.nn.convolution``.
    """
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class SamePad(nn.Module):
    """Zeros around an image, as TensorFlow's ``SAME`` puts them in front of a convolution.

    They are not symmetric for some strides, so no ``padding`` of PyTorch's convolution can stand for them.

    Parameters
    ----------
    kernel : pair of int
    stride : int
    """

    def __init__(self, kernel: tuple[int, int], stride: int):
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, top + H + bottom, left + W + right)."""
        vertical, horizontal = (
            same_padding(size, kernel, self.stride) for size, kernel in zip(x.shape[2:], self.kernel, strict=True)
        )
        return nn.functional.pad(x, (*horizontal, *vertical))


class ConvNorm(nn.Module):
    """Convolution, batch norm and, if wanted, ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int or pair of int
    stride : int
    groups : int
        ``inputs`` for a depthwise layer.
    padding : int or None
        Pixels on every side; ``None`` for TensorFlow's ``SAME``.
    relu : bool
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        relu: bool = True,
    ):
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.pad = SamePad(size, stride) if padding is None else nn.ZeroPad2d(padding)
        self.conv = nn.Conv2d(inputs, outputs, size, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H', W')."""
        x = self.norm(self.conv(self.pad(x)))
        return torch.relu(x) if self.relu else x


class ResidualBlock(nn.Module):
    """Two 3x3 layers beside a shortcut.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
        Of the first layer and of the shortcut.
    shortcut : torch.nn.Module
        Takes what the block takes and gives what it gives.
    padding : int or None
        As in :class:`ConvNorm`.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, shortcut: nn.Module, padding: int | None = None):
        super().__init__()
        self.layer1 = ConvNorm(inputs, outputs, 3, stride=stride, padding=padding)
        self.layer2 = ConvNorm(outputs, outputs, 3, padding=padding, relu=False)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H', W')."""
        return torch.relu(self.layer2(self.layer1(x)) + self.shortcut(x))


def initialize(network: nn.Module) -> None:
    """Draw weights of which each layer keeps the variance of its input, so that a network can be run untrained.

    Source: He et al., Delving Deep into Rectifiers, 2015; PyTorch's own choice fades layer by layer.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
