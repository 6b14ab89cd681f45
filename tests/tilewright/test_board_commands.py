# SPDX-License-Identifier: Apache-2.0
"""``tilewright build`` and ``tilewright program``, with tools that pretend; rates, and the table of boards."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.boards.small_board import fake_plan, fake_tools, small_board
from tilewright import api, board_commands, board_rates
from tilewright.board_rates import RATED, Rate, fill, memory_timing, rate, row
from tilewright.cli import main
from tilewright_boards import wrapper
from tilewright_boards.board import load_board
from tilewright_boards.build import build
from tilewright_boards.memories import SdramMemory


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(wrapper, "plan", fake_plan())
    monkeypatch.setattr(board_commands, "load_board", lambda name: small_board())
    return fake_tools(folder)


def call(tmp_path: Path, *arguments: str) -> int:
    return main([*arguments, "--board", "small", "--directory", str(tmp_path / "build")])


def test_build(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Timing that is not met is an error, and what was done is not done again."""
    assert call(tmp_path, "build") == 1
    said = capsys.readouterr()
    assert "small: does not meet timing: try more --seeds" in said.out
    assert said.err.splitlines()[0].startswith("elaboration: done, ")
    assert call(tmp_path, "build", "--seeds", "2") == 0
    said = capsys.readouterr()
    assert "synthesis: done before, " in said.err
    assert "small: fits and meets timing" in said.out and "board.mixer" in said.out
    assert "99 LUTs, 6.2 a PE; seed 2 of 2" in said.out
    assert (tmp_path / "build" / "small.bin").read_text() == "packed routed 2"


def test_timing_may_fail(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "build", "--allow-timing-fail") == 0
    assert "does not meet timing, which is allowed" in capsys.readouterr().out


def test_check(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "build", "--check") == 0
    assert "small: fits (" in capsys.readouterr().out
    monkeypatch.setattr(board_commands, "load_board", lambda name: small_board(luts=0))
    assert call(tmp_path, "build", "--check") == 1
    assert "small: does not fit: 1 LC of 0" in capsys.readouterr().out


def test_json(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "build", "--seeds", "2", "--json") == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert said.err == "" and data["timing_met"] and data["seed"] == 2
    assert Path(data["bitstream"]).read_text() == "packed routed 2"


def test_program(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "program") == 1
    assert "make it with `tilewright build --board small`" in capsys.readouterr().err
    call(tmp_path, "build", "--allow-timing-fail")
    loader = log.parent / "openFPGALoader"
    loader.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    loader.chmod(0o755)
    assert call(tmp_path, "program") == 0
    assert Path(f"{loader}.log").read_text().split()[-1] == str(tmp_path / "build" / "small.bin")


def test_unknown_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--board", "none"]) == 1
    assert "Board must be one of " in capsys.readouterr().err


def test_memory_timing() -> None:
    spram = memory_timing(small_board())
    assert (spram.latency, spram.beat_period) == (2, 1)
    board = load_board("ulx3s-12f")
    assert isinstance(board.memory, SdramMemory)
    assert memory_timing(board).beat_period == board.config.bus.data_bits // 16


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives again what it gave first, since it takes seconds."""
    made: list[Any] = []

    def call(*arguments: Any, **options: Any) -> Any:
        if not made:
            made.append(function(*arguments, **options))
        return made[0]

    return call


def test_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slower memory and a slower clock make a slower board; what does not fit says why."""
    board = small_board()
    for name in ("quantize", "compile"):
        monkeypatch.setattr(api, name, once(getattr(api, name)))
    fast = rate(board, "dscnn")
    assert fast.problem == "" and fast.per_second == board.clock_hz / fast.cycles
    slow = memory_timing(load_board("ulx3s-12f"))
    monkeypatch.setattr(board_rates, "memory_timing", lambda board: slow)
    assert rate(replace(board, clock_hz=6_000_000), "dscnn").per_second < fast.per_second / 2
    monkeypatch.setattr(board_rates, "required_memory", lambda program: 1 << 20)
    assert rate(board, "dscnn").problem == "needs 1,048,576 bytes of main memory, of 131,072"


def test_table(tmp_path: Path, log: Path) -> None:
    board = small_board()
    report = build(board, directory=tmp_path / "build", seeds=3).report
    rates = [Rate(network="resnet8", cycles=1000, per_second=12_000.04),
             Rate(network="dscnn", cycles=10, per_second=1.5, host_layers=2),
             Rate(network="mobilenet", problem="too big")]
    routed = row(board, report, rates)
    checked = row(board, build(small_board(luts=0), directory=tmp_path / "build").report, rates)
    page = fill("a\n<!-- table boards -->\nold\n<!-- end -->\nb\n", [routed, checked])
    assert page == fill(page, [routed, checked])
    lines = page.splitlines()
    assert (lines[0], lines[-1]) == ("a", "b") and "old" not in page
    assert [cell.strip() for cell in lines[5].split("|")][1:4] == ["small", "4 x 4", "12, 13.5"]
    assert "| 12,000.0 | 1.5 (2 layers on the host) | - |" in lines[5]
    assert "does not fit" in lines[6]
    assert lines[8] == "- small, mobilenet: too big"
    seconds = report["seconds"]
    assert routed["build_seconds"] == sum(seconds[name] for name in (
        "elaboration", "synthesis", "place and route, seed 2", "packing, seed 2"))
    with pytest.raises(ValueError, match="The page must have <!-- table boards -->"):
        fill("nothing", [])


def test_the_table_of_the_page_is_the_record_s() -> None:
    root = Path(__file__).parents[2]
    page, record = root / "docs" / "boards.md", root / "benchmarks" / "boards.json"
    rows: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    assert fill(text, list(rows.values())) == text
    assert all([one["network"] for one in known["rates"]] == list(RATED) for known in rows.values())
