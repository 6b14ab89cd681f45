# SPDX-License-Identifier: Apache-2.0
"""Boards of the catalog through the real tools as far as synthesis, which tells whether they fit."""

from pathlib import Path

import pytest

from tilewright_boards.board import boards
from tilewright_boards.build import build

pytestmark = pytest.mark.slow

BOARDS = boards()


@pytest.mark.parametrize("name", ["ulx3s-12f", "ulx3s-85f"])
def test_they_fit(tmp_path: Path, name: str) -> None:
    board = BOARDS[name]
    result = build(board, directory=tmp_path, check=True)
    assert result.fits, [str(use) for use in result.uses]
    assert result.bitstream is None
    # A block makes two products.
    used = {use.resource: use.used for use in result.uses}
    assert used["MULT18X18D"] >= board.config.array.pes // 2
