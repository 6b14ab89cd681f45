# SPDX-License-Identifier: Apache-2.0
"""A small quantized network and open devices, which the tests of the face share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import tilewright as tw
from tests.tilewright.agreement import Devices


class Small(nn.Module):
    """Two convolutions and a classifier; with ``softmax``, one operator that only the host has."""

    def __init__(self, softmax: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 6, 3, stride=2)
        self.classify = nn.Linear(6, 4)
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 6, 6) to (N, 4)."""
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = self.classify(x.mean((2, 3)))
        return torch.softmax(x, 1) if self.softmax else x


@dataclass(frozen=True)
class Files:
    """Paths of a quantized model, its program for nano4, and an input."""

    model: Path
    program: Path
    x: Path
    images: npt.NDArray[np.float32]


def _files(folder: Path, softmax: bool) -> Files:
    torch.manual_seed(0)
    images = torch.randn(5, 3, 6, 6)
    quantized = tw.quantize(Small(softmax).eval(), [images])
    files = Files(folder / "small.pt2", folder / "small.twp", folder / "x.npy", images.numpy())
    torch.export.save(quantized, files.model)
    tw.compile(quantized, config="nano4", name="small").save(files.program)
    np.save(files.x, files.images)
    return files


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A network that runs wholly on the accelerator."""
    return _files(tmp_path_factory.mktemp("small"), softmax=False)


@pytest.fixture(scope="session")
def with_host(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A network whose softmax runs on the host."""
    return _files(tmp_path_factory.mktemp("host"), softmax=True)


@pytest.fixture(scope="session")
def devices() -> Iterator[Devices]:
    """Devices that stay open."""
    opened = Devices()
    yield opened
    opened.close()
