# SPDX-License-Identifier: Apache-2.0
"""The cache of built simulators: reused when whole, rebuilt when not, and never left half-written."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from tilewright_sim.build_cache import CacheError, cache_root, cached, digest, writable


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """Builds an entry of two files and counts how often."""

    def __init__(self) -> None:
        self.builds = 0

    def __call__(self, folder: Path) -> None:
        self.builds += 1
        (folder / "model.so").write_text("machine code")
        (folder / "parts").mkdir()
        (folder / "parts" / "table").write_bytes(bytes(1000))


def residue(root: Path) -> list[str]:
    """Everything in the cache that is neither an entry nor a lock."""
    return [path.name for path in root.glob("*/.*")]


def test_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("TILEWRIGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "tilewright"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "tilewright"


def test_digest_sees_every_part_and_where_it_is_cut() -> None:
    assert digest("ab", "c") == digest("ab", "c")
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest("c", "ab")}) == 5


def test_second_use_reuses_the_build(root: Path) -> None:
    build = Builder()
    first = cached("models", "k", build)
    second = cached("models", "k", build)
    assert first == second == root / "models" / "k"
    assert build.builds == 1
    assert (first / "parts" / "table").read_bytes() == bytes(1000)
    cached("models", "other", build)
    assert build.builds == 2
    assert residue(root) == []


def truncate(entry: Path) -> None:
    (entry / "model.so").write_text("machine")


def flip_a_bit(entry: Path) -> None:
    (entry / "parts" / "table").write_bytes(bytes(999) + b"\x01")


def lose_a_file(entry: Path) -> None:
    (entry / "model.so").unlink()


def add_a_file(entry: Path) -> None:
    (entry / "extra").write_text("")


def lose_the_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def tear_the_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text('{"model.so": "')


def empty_the_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text("{}")


def replace_by_a_file(entry: Path) -> None:
    entry.rename(entry.with_name("moved"))
    entry.write_text("")


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, lose_a_file, add_a_file, lose_the_manifest, tear_the_manifest, empty_the_manifest,
     replace_by_a_file],
)
def test_damaged_entry_is_rebuilt(root: Path, damage) -> None:
    build = Builder()
    damage(cached("models", "k", build))
    entry = cached("models", "k", build)
    assert build.builds == 2
    assert (entry / "model.so").read_text() == "machine code"
    assert not (entry / "extra").exists()
    cached("models", "k", build)
    assert build.builds == 2


@pytest.mark.parametrize("problem", [RuntimeError("compiler"), KeyboardInterrupt()])
def test_failed_build_leaves_nothing(root: Path, problem: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "model.so").write_text("half")
        raise problem

    with pytest.raises(type(problem)):
        cached("models", "k", fail)
    assert residue(root) == []
    assert not (root / "models" / "k").exists()
    build = Builder()
    cached("models", "k", build)
    assert build.builds == 1


def test_leftover_of_a_killed_builder_is_removed(root: Path) -> None:
    def die(folder: Path) -> None:
        (folder / "model.so").write_text("half")
        os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=cached, args=("models", "k", die))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert len(residue(root)) == 1
    cached("models", "k", Builder())
    assert residue(root) == []


def build_slowly(log: Path) -> None:
    import time

    def build(folder: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        (folder / "model.so").write_text("machine code")

    cached("models", "k", build)


def test_two_processes_build_once(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build_slowly, args=(log,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "built\n"


def test_full_disk_is_one_clear_line(root: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "model.so"))

    with pytest.raises(CacheError, match=r"must be writable, but .*model\.so is not: No space left on device\. Free "
                                         r"some space, or set TILEWRIGHT_CACHE to another folder\.$"):
        cached("models", "k", fill)
    assert residue(root) == []


def test_cache_in_place_of_a_file_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match=r"must be writable, but .*file.* is not: Not a directory"):
        cached("models", "k", Builder())
    with pytest.raises(CacheError, match="must be writable"):
        writable()


def test_writable_cache_is_left_clean(root: Path) -> None:
    writable()
    assert list(root.iterdir()) == []
