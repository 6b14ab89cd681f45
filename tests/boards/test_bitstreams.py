# SPDX-License-Identifier: Apache-2.0
"""The boards of the catalog through the real tools: the iCEBreaker to its bitstream, the others as far as synthesis."""

from pathlib import Path

import pytest

from tilewright_boards.board import boards
from tilewright_boards.build import build

pytestmark = pytest.mark.slow

BOARDS = boards()
WHOLE = "icebreaker"


def test_a_bitstream(tmp_path: Path) -> None:
    """It fits and is as fast as the board's clock."""
    board = BOARDS[WHOLE]
    result = build(board, directory=tmp_path, seeds=2)
    assert result.fits and result.routed is not None
    assert result.report["timing_met"]
    assert result.bitstream is not None and len(result.bitstream.read_bytes()) > 100_000
    # Every block of the DSPs' two multipliers, and all of main memory.
    used = {use.resource: use.used for use in result.routed.uses}
    assert (used["ICESTORM_DSP"], used["ICESTORM_SPRAM"]) == (8, 4)


@pytest.mark.parametrize("name", sorted(set(BOARDS) - {WHOLE}))
def test_the_others_fit(tmp_path: Path, name: str) -> None:
    result = build(BOARDS[name], directory=tmp_path, check=True)
    assert result.fits, [str(use) for use in result.uses]
    assert result.bitstream is None
