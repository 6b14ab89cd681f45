# SPDX-License-Identifier: Apache-2.0
"""A small residual network for scikit-learn's handwritten digits, and its training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..training import train_network

__all__ = ["Digits", "ResidualNet", "load_digits", "train"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same shape."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + x)


class ResidualNet(nn.Module):
    """Digits of shape (N, 1, 8, 8) to logits of shape (N, 10)."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.block1 = ResidualBlock(width)
        self.pool = nn.MaxPool2d(2)
        self.widen = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.block2 = ResidualBlock(2 * width)
        self.average = nn.AdaptiveAvgPool2d(2)
        self.classify = nn.Linear(2 * width * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.pool(self.block1(self.stem(x)))
        x = self.average(self.block2(self.widen(x)))
        return self.classify(torch.flatten(x, 1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8), float32 in 0 to 1, and labels (N,), split in two."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load_digits() -> Digits:
    """The 1,797 digits that ship with scikit-learn: 1,257 to train, 540 to test."""
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    data: Any = sklearn_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    train_rows, test_rows = train_test_split(
        range(len(labels)), test_size=540, random_state=0, stratify=data.target
    )
    return Digits(images[train_rows], labels[train_rows], images[test_rows], labels[test_rows])


def train(
    digits: Digits, *, epochs: int = 16, seed: int = 0, progress: Callable[[int], None] | None = None
) -> nn.Module:
    """Train a network; ``progress`` is called with the number of epochs done, after each."""
    return train_network(
        ResidualNet, digits.train_images, digits.train_labels, loss=nn.functional.cross_entropy, epochs=epochs,
        seed=seed, augment=_shifted, progress=progress or (lambda done: None),
    )


def _shifted(images: torch.Tensor) -> torch.Tensor:
    """The same batch, moved by up to one pixel in each direction: cheap variety for a small data set."""
    dy, dx = (int(n) for n in torch.randint(-1, 2, (2,)))
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return padded[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]
