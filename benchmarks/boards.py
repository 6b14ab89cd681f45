# SPDX-License-Identifier: Apache-2.0
"""Bitstreams of all boards, and the table of them: ``python benchmarks/boards.py [--seeds N] [--board B ...]``.

Builds what is not built yet, models the networks on each board, and rewrites ``benchmarks/boards.json`` and the table
in ``docs/boards.md``. Takes minutes to hours; what is finished is not done again.
"""

import argparse
import json
import sys
from pathlib import Path

from tilewright.board_commands import print_build, stage_lines
from tilewright.board_rates import RATED, fill, rate, row
from tilewright_boards.board import boards
from tilewright_boards.build import DIRECTORY, build
from tilewright_hdl.errors import TilewrightError
from tilewright_hdl.files import write_whole

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "boards.json"
PAGE = ROOT / "docs" / "boards.md"


def main() -> None:
    known = boards()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", action="append", choices=tuple(known), metavar="B", help="default: all")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--directory", type=Path, default=ROOT / DIRECTORY, metavar="D")
    arguments = parser.parse_args()
    bad = []
    for name in arguments.board or known:
        board = known[name]
        try:
            with stage_lines(quiet=False) as progress:
                result = build(board, directory=arguments.directory, seeds=arguments.seeds, progress=progress)
        except TilewrightError as error:
            print(f"{name}: {error}", file=sys.stderr)
            bad.append(name)
            continue
        print_build(board, result, check=False)
        bad += [] if result.bitstream is not None else [name]
        rows = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
        rows[name] = row(board, result.report, [rate(board, network) for network in RATED])
        ordered = {one: rows[one] for one in known if one in rows}
        page = fill(PAGE.read_text(encoding="utf-8"), list(ordered.values()))
        # After each board, so that hours are not lost when a later one fails.
        write_whole({RECORD: (json.dumps(ordered, indent=1) + "\n").encode(), PAGE: page.encode()})
    if bad:
        sys.exit(f"no bitstream that meets timing: {', '.join(bad)}")


if __name__ == "__main__":
    main()
