# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from tilewright_hdl.files import write_whole


def test_files_are_replaced_whole_and_links_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_whole({link: b"new", tmp_path / "other": b"more"})
    assert real.read_bytes() == b"new" and link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "other", "real"]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_one_that_fails_keeps_all_away(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        write_whole({first: b"new", tmp_path / "missing" / "second": b"new"})
    assert first.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["first"]


def test_a_device_and_a_pipe_are_written_to(tmp_path: Path) -> None:
    write_whole({Path(os.devnull): b"data"})
    assert Path(os.devnull).is_char_device()
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_whole({pipe: b"data"})
    reader.join()
    assert received == [b"data"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_device() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_whole({Path("/dev/full"): b"data"})
    assert Path("/dev/full").is_char_device()
