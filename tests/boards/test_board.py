# SPDX-License-Identifier: Apache-2.0
"""Boards as data: the catalog, files of users, what is refused, and the digest."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tilewright_boards import catalog
from tilewright_boards.board import LEDS, Board, boards, load_board
from tilewright_boards.memories import BlockMemory, SdramMemory, SpramMemory
from tilewright_driver.find_board import BAUDS
from tilewright_hdl.config import load_config
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.targets import Target

PAGE = Path(__file__).parents[2] / "docs" / "boards.md"
VERSIONS = {"yosys": "0.70", "nextpnr": "0.11"}
USERS = """
import dataclasses

from tilewright_boards.board import load_board

BOARD = dataclasses.replace(load_board("icebreaker"), name="mine", clock_hz=18_000_000)
"""


def test_the_catalog() -> None:
    found = boards()
    assert set(found) == {"ulx3s-85f", "ulx3s-85f-16x16", "ulx3s-12f", "icebreaker", "tang-nano-20k"}
    for name, board in found.items():
        assert board.name == board.config.name == name
        assert load_board(name) == board
        assert set(board.leds) == set(LEDS)
        assert board.baud in BAUDS, "the driver must look there"


def test_the_catalog_asks_for_what_the_device_has() -> None:
    """As far as the configuration alone tells: multipliers, and the bits of the memories on chip."""
    bits = {Target.ECP5: 18 << 10, Target.ICE40: 4 << 10, Target.GOWIN: 18 << 10}
    for board in boards().values():
        products = board.config.array.pes // (2 if board.config.array.group == 2 or board.target == Target.ICE40 else 1)
        assert products <= board.device.dsps
        memory = board.config.memory
        stored = 8 * (memory.activation_bytes + memory.weight_bytes) + 2 * (
            memory.accumulator_entries * board.config.array.columns * memory.accumulator_bits)
        assert stored <= board.device.rams * bits[board.target]


def test_a_file_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(USERS)
    board = load_board(path)
    assert (board.name, board.clock_hz, board.memory) == ("mine", 18_000_000, SpramMemory())


@pytest.mark.parametrize(("text", "message"), [
    ("1 +", r"Board file .*bad.py: SyntaxError: "),
    ("import nowhere", r"Board file .*bad.py: ModuleNotFoundError: No module named 'nowhere'"),
    ("", r"Board file .*bad.py must set BOARD to a Board, not None"),
    ("BOARD = 3", r"Board file .*bad.py must set BOARD to a Board, not 3"),
    (USERS.replace("mine", "My Board"), r"Board file .*bad.py: ConfigError: board.name must be 1 to 16 lower-case"),
])
def test_a_bad_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_board(path)


def test_a_name_that_no_board_has() -> None:
    with pytest.raises(ConfigError, match=r"Board must be one of icebreaker, .*-16x16 or a .py file, not 'ulx4s'"):
        load_board("ulx4s")
    with pytest.raises(ConfigError, match=r"Board file none.py cannot be read: there is no such file"):
        load_board("none.py")


@pytest.mark.parametrize(("change", "message"), [
    ({"name": "a_b"}, "board.name must be 1 to 16 lower-case letters, digits and dashes, not 'a_b'"),
    ({"name": "a-very-long-name-of-a-board"}, "board.name must be 1 to 16"),
    ({"target": "ecp5"}, "board.target of ulx3s-85f must be .*Target.*, not 'ecp5'"),
    ({"memory": 4}, "board.memory of ulx3s-85f must be .*, not 4"),
    ({"leds": {"blink": ("led", 0)}}, "board.leds of ulx3s-85f must name alive, synced, running, error, not 'blink'"),
    ({"baud": 40_000_000}, "board ulx3s-85f: The clock of 80000000 Hz must be at least 4 times the rate of the line"),
    ({"clock_hz": 166_000_000}, "clock_hz must leave time for the way to the SDRAM"),
    ({"config": load_config("nano4"), "memory": BlockMemory(bytes=1 << 31),
      "target": Target.ECP5}, None),
])
def test_what_a_board_cannot_be(change: dict[str, Any], message: str | None) -> None:
    board = boards()["ulx3s-85f"]
    if message is None:
        dataclasses.replace(board, **change)
        return
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(board, **change)


def test_main_memory_must_be_within_reach() -> None:
    board = boards()["icebreaker"]
    bus = dataclasses.replace(board.config.bus, address_bits=16)
    with pytest.raises(ConfigError, match=r"config.bus.address_bits of icebreaker must reach the 131072 bytes of main "
                                          r"memory, so be at least 17, not 16"):
        dataclasses.replace(board, config=dataclasses.replace(board.config, bus=bus))
    with pytest.raises(ConfigError, match=r"memory.chip must be one of .*ULX3S, not 'DDR9'"):
        SdramMemory(chip="DDR9")
    with pytest.raises(ConfigError, match=r"memory.bytes must be a power of two of at least 4096, not 5000"):
        BlockMemory(bytes=5000)


def test_the_digest_is_of_all_that_makes_a_bitstream() -> None:
    board = boards()["ulx3s-12f"]
    digest = board.build_digest(VERSIONS)
    assert digest == board.build_digest(dict(reversed(VERSIONS.items())))
    assert len(bytes.fromhex(digest)) == 32
    bus = dataclasses.replace(board.config.bus, outstanding=2)
    others = [
        board.build_digest(VERSIONS | {"yosys": "0.71"}),
        *(dataclasses.replace(board, **change).build_digest(VERSIONS) for change in (
            {"name": "other"}, {"clock_hz": 50_000_000}, {"baud": 1_000_000}, {"memory": BlockMemory(bytes=4096)},
            {"config": dataclasses.replace(board.config, bus=bus)}, {"button": None}, {"leds": {}},
            {"placer": ("--placer", "sa")},
            {"device": dataclasses.replace(board.device, name="LFE5U-25F")},
        )),
    ]
    assert len({digest, *others}) == 1 + len(others)


def test_identity() -> None:
    build = bytes(range(16))
    identity = boards()["tang-nano-20k"].identity(build)
    assert (identity.board, identity.build, identity.clock_hz) == ("tang-nano-20k", build, 48_000_000)
    assert (identity.memory_bytes, identity.word_bytes) == (8 << 20, 4)


def test_a_board_knows_its_platform() -> None:
    for board in boards().values():
        assert isinstance(board, Board)
        platform = board.platform()
        assert platform is not board.platform()
        assert platform.default_clk_frequency > 0
        for pin in (board.uart, board.button, *board.leds.values()):
            assert pin is not None
            platform.lookup(*pin)


@pytest.mark.parametrize("in_catalog", [False, True])
def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_catalog: bool) -> None:
    """It is a board by its path, and by its name in the catalog."""
    (text,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "a_ulx3s_45f.py"
    path.write_text(text)
    monkeypatch.setattr(catalog, "__path__", [*catalog.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{catalog.__name__}.{path.stem}", raising=False)
    board = load_board("ulx3s-45f" if in_catalog else path)
    assert (board.name, board.device.dsps, board.config) == ("ulx3s-45f", 72, load_board("ulx3s-12f").config)
    sys.modules.pop(f"{catalog.__name__}.{path.stem}", None)
