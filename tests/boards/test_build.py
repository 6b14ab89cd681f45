# SPDX-License-Identifier: Apache-2.0
"""The flow of a build, with tools that pretend, and once with real ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.boards.small_board import fake_plan, fake_tools, small_board, small_plan
from tilewright_boards import build as build_module
from tilewright_boards import wrapper
from tilewright_boards.build import BuildResult, build, product
from tilewright_boards.stages import Event
from tilewright_hdl.errors import BuildError
from tilewright_hdl.targets import Target


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tools write down who ran; they come first on ``PATH``, and the design is theirs."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(wrapper, "plan", fake_plan())
    return fake_tools(folder)


def make(tmp_path: Path, **options: Any) -> BuildResult:
    return build(options.pop("board", small_board()), directory=tmp_path / "build", **options)


def ran(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def leftovers(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "build").rglob(".*")]


def test_best_seed_is_kept_and_nothing_is_done_twice(tmp_path: Path, log: Path) -> None:
    first = make(tmp_path)
    assert ran(log) == ["yosys", "nextpnr-ice401"]
    assert first.fits and first.bitstream is None and not first.report["timing_met"]
    assert not product(small_board(), tmp_path / "build").exists()

    events: list[Event] = []
    best = make(tmp_path, seeds=3, progress=events.append)
    assert sorted(ran(log)[2:]) == ["icepack", "nextpnr-ice402", "nextpnr-ice403"]
    assert best.folder == first.folder
    assert best.bitstream is not None and best.bitstream.read_text() == "packed routed 2"
    assert product(small_board(), tmp_path / "build").read_text() == "packed routed 2"
    assert best.report["seed"] == 2 and best.report["clocks"] == [
        {"name": "board.clk", "asked_mhz": 12.0, "achieved_mhz": 13.5, "met": True}]
    assert [(event.stage, event.reused) for event in events if event.seconds is not None][:4] == [
        ("elaboration", True), ("synthesis", True), ("netlist", True), ("place and route, seed 1", True)]
    assert json.loads((best.folder / "report.json").read_text()) == json.loads(json.dumps(best.report))
    assert best.report["luts_per_pe"] == round(99 / 16, 1)

    make(tmp_path, seeds=3)
    assert len(ran(log)) == 5
    assert leftovers(tmp_path) == []


def test_timing_may_fail_if_that_is_allowed(tmp_path: Path, log: Path) -> None:
    result = make(tmp_path, allow_timing_fail=True)
    assert result.bitstream is not None and result.bitstream.read_text() == "packed routed 1"
    assert result.routed is not None and not result.routed.met


def test_check_stops_after_synthesis(tmp_path: Path, log: Path) -> None:
    result = make(tmp_path, check=True)
    assert ran(log) == ["yosys"]
    assert result.fits and result.bitstream is None and "clocks" not in result.report
    assert [(use.resource, use.used, use.available) for use in result.uses] == [
        ("LC", 1, 5280), ("FF", 1, 5280), ("SB_MAC16", 0, 8), ("SB_RAM40_4K", 0, 30)]


def test_what_does_not_fit_is_not_placed(tmp_path: Path, log: Path) -> None:
    result = make(tmp_path, board=small_board(luts=0))
    assert ran(log) == ["yosys"]
    assert not result.fits and result.bitstream is None


def test_digest(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, tools and board make another build; the build itself carries the digest of it."""
    first = make(tmp_path, check=True)
    assert (first.folder / "elaboration" / "tilewright_board.v").read_text() == first.digest[:32]
    assert make(tmp_path, check=True).digest == first.digest
    monkeypatch.setattr(wrapper, "plan", fake_plan("other"))
    second = make(tmp_path, check=True)
    fake_tools(log.parent, "1.1")
    build_module.find_tool.__globals__["_native_version"].cache_clear()
    third = make(tmp_path, check=True)
    fourth = make(tmp_path, check=True, board=small_board(name="other"))
    assert len({result.digest for result in (first, second, third, fourth)}) == 4
    assert first.report["tools"]["yosys"].startswith("yosys 1.0, native ")
    assert third.report["tools"]["yosys"].startswith("yosys 1.1, native ")


def test_failures(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILS", "yosys")
    with pytest.raises(BuildError, match="synthesis ended with exit code 1: ERROR: it is too large"):
        make(tmp_path)
    monkeypatch.setenv("FAKE_FAILS", "nextpnr-ice401")
    with pytest.raises(BuildError, match=r"(?s)could not be placed and routed.*seed 1 ended with") as info:
        make(tmp_path)
    assert "\n" in str(info.value)
    assert leftovers(tmp_path) == []
    result = make(tmp_path, seeds=2)  # One that can be routed is enough.
    assert result.report["seed"] == 2 and list(result.report["seeds"]) == [2]


def test_leftovers_of_a_killed_build_go(tmp_path: Path, log: Path) -> None:
    folder = make(tmp_path, check=True).folder
    (folder / ".half-dead").mkdir()
    make(tmp_path, check=True)
    assert leftovers(tmp_path) == []


def test_seeds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are cores, and as memory is enough for; one in any case."""
    assert build_module._available_bytes() > 1 << 24
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(4)), raising=False)
    for available, count in ((100 << 30, 4), (7 << 30, 2), (0, 1)):
        monkeypatch.setattr(build_module, "_available_bytes", lambda available=available: available)
        assert build_module._at_once(Target.ECP5) == count


@pytest.mark.parametrize("seeds", [0, 101, True, 1.5])
def test_seeds_must_be_some(tmp_path: Path, seeds: Any) -> None:
    with pytest.raises(ValueError, match="seeds must be an integer from 1 to 100"):
        make(tmp_path, seeds=seeds)


def test_folder_that_cannot_be_written(tmp_path: Path, log: Path) -> None:
    (tmp_path / "build").write_text("")
    with pytest.raises(BuildError, match=r"Build folder .* must be writable"):
        make(tmp_path)


_INTERRUPTED = """
import sys
from pathlib import Path
from tests.boards.small_board import fake_plan, small_board
from tilewright_boards import wrapper
from tilewright_boards.build import build
wrapper.plan = fake_plan()
build(small_board(), directory=Path(sys.argv[1]))
"""


@pytest.mark.parametrize("tool", ["yosys", "nextpnr-ice40"])
def test_interrupt(tmp_path: Path, log: Path, tool: str) -> None:
    """Ctrl-C: the tool is gone, what it had half written too, and the next build goes on from there."""
    env = {**os.environ, "FAKE_SLEEPS": tool, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", _INTERRUPTED, str(tmp_path / "build")], env=env,
                               stderr=subprocess.PIPE)
    pid = int(_wait_for(log.parent / "pid", process))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert not _alive(pid)
    assert leftovers(tmp_path) == []
    assert make(tmp_path, allow_timing_fail=True).bitstream is not None
    assert ran(log).count("yosys") == (2 if tool == "yosys" else 1)


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> str:
    for _ in range(6000):
        assert process.poll() is None, process.communicate()[1].decode()
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written within 60 s")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_real_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bitstream of an iCE40, and a count after synthesis that nextpnr's is near to."""
    monkeypatch.setattr(wrapper, "plan", small_plan)
    result = make(tmp_path)
    assert result.bitstream is not None and len(result.bitstream.read_bytes()) > 100_000
    assert result.report["timing_met"] and result.routed is not None
    assert {part.module for part in result.routed.paths[0].parts} <= {"board", "board.mixer", "board.gate"}
    cells = next(use.used for use in result.routed.uses if use.resource == "ICESTORM_LC")
    assert 0 <= cells - result.uses[0].used <= 5  # nextpnr adds some where a carry comes out of a chain.
    assert cells > 50
