# SPDX-License-Identifier: Apache-2.0
"""Boards of the catalog through the real tools: the smallest one to its bitstream, others as far as synthesis."""

from pathlib import Path

import pytest

from tilewright_boards.board import boards
from tilewright_boards.build import build, product

pytestmark = pytest.mark.slow

BOARDS = boards()

SEEDS = 2
"""Beginnings of place and route that may be needed, as other versions of the tools place otherwise."""


def test_icebreaker_meets_its_clock(tmp_path: Path) -> None:
    """From nothing to a bitstream; the next seed is only tried where timing is not met."""
    board = BOARDS["icebreaker"]
    result = build(board, directory=tmp_path)
    for seeds in range(2, SEEDS + 1):
        if result.bitstream is None:
            result = build(board, directory=tmp_path, seeds=seeds)
    assert result.routed is not None and result.routed.met, result.report
    assert result.report["clocks"][0]["achieved_mhz"] >= board.clock_hz / 1e6
    for use in (*result.uses, *result.routed.uses):
        assert 0 < use.used <= use.available, str(use)
    # Each block makes two products.
    used = {use.resource: use.used for use in result.uses}
    assert used["SB_MAC16"] == board.config.array.pes // 2
    content = product(board, tmp_path).read_bytes()
    assert result.bitstream is not None and result.bitstream.read_bytes() == content
    # The word that begins an iCE40's bitstream, and about the bits of its cells.
    assert bytes.fromhex("7eaa997e") in content[:64]
    assert len(content) > 100_000


@pytest.mark.parametrize(("name", "block", "products"), [
    ("ulx3s-12f", "MULT18X18D", 2), ("ulx3s-85f", "MULT18X18D", 2), ("tang-nano-20k", "MULT9X9", 1),
])
def test_they_fit(tmp_path: Path, name: str, block: str, products: int) -> None:
    board = BOARDS[name]
    result = build(board, directory=tmp_path, check=True)
    assert result.fits, [str(use) for use in result.uses]
    assert result.bitstream is None
    used = {use.resource: use.used for use in result.uses}
    assert used[block] >= board.config.array.pes // products
