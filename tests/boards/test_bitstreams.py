# SPDX-License-Identifier: Apache-2.0
"""Boards of the catalog through the real tools: the smallest one to its bitstream, others as far as synthesis."""

from pathlib import Path

import pytest

from tilewright_boards.board import boards
from tilewright_boards.build import build, product

pytestmark = pytest.mark.slow

BOARDS = boards()
WHOLE = "icebreaker"

SEEDS = 2
"""Beginnings of place and route that may be needed, as other versions of the tools place otherwise."""


def test_icebreaker_meets_its_clock(tmp_path: Path) -> None:
    """From nothing to a bitstream; the next seed is only tried where timing is not met."""
    board = BOARDS[WHOLE]
    result = build(board, directory=tmp_path)
    for seeds in range(2, SEEDS + 1):
        if result.bitstream is None:
            result = build(board, directory=tmp_path, seeds=seeds)
    assert result.routed is not None and result.routed.met, result.report
    assert result.report["clocks"][0]["achieved_mhz"] >= board.clock_hz / 1e6
    for use in (*result.uses, *result.routed.uses):
        assert 0 < use.used <= use.available, str(use)
    # Every block of the DSPs' two multipliers, and all of main memory.
    used = {use.resource: use.used for use in result.routed.uses}
    assert (used["ICESTORM_DSP"], used["ICESTORM_SPRAM"]) == (8, 4)
    content = product(board, tmp_path).read_bytes()
    assert result.bitstream is not None and result.bitstream.read_bytes() == content
    # The word that begins an iCE40's bitstream, and about the bits of its cells.
    assert bytes.fromhex("7eaa997e") in content[:64]
    assert len(content) > 100_000


@pytest.mark.parametrize("name", sorted(set(BOARDS) - {WHOLE}))
def test_the_others_fit(tmp_path: Path, name: str) -> None:
    board = BOARDS[name]
    result = build(board, directory=tmp_path, check=True)
    assert result.fits, [str(use) for use in result.uses]
    assert result.bitstream is None
    used = {use.resource: use.used for use in result.uses}
    products = 2 if board.config.array.pairs else 1
    assert used[board.device.units["dsps"]] >= board.config.array.pes // products
