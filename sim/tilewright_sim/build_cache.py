# SPDX-License-Identifier: Apache-2.0
"""Cache of built simulators, addressed by the digest of everything that went into them.

An entry is a folder ``<cache root>/<kind>/<digest>`` with the artefacts and a manifest that holds the sha256 of
each. Three things keep it honest:

- An entry is built in a temporary folder beside its place and renamed into it when complete, so a build that is
  interrupted leaves no entry.
- One lock for each digest: a second process that wants the same entry waits for it instead of building it again.
- Each use checks every artefact against the manifest. A stale, torn or altered entry is rebuilt, never trusted.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tilewright_hdl.errors import SimulationError

__all__ = ["CacheError", "cache_root", "cached", "digest", "writable"]

_MANIFEST = "manifest.json"
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST,
               errno.EISDIR)


class CacheError(SimulationError):
    """The cache folder cannot be written: no permission, or no space left."""


def cache_root() -> Path:
    """Return the cache folder: ``$TILEWRIGHT_CACHE``, or ``tilewright`` in the user's cache folder."""
    if chosen := os.environ.get("TILEWRIGHT_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "tilewright"


def digest(*parts: str) -> str:
    """Return a hexadecimal digest of ``parts``, in order; the same text cut elsewhere has another digest."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:40]


def writable() -> None:
    """Create the cache folder and write to it.

    Raises
    ------
    CacheError
        The folder cannot be created or written.
    """
    with _clear_errors(every=True):
        cache_root().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache_root()) as probe:
            probe.write(b"tilewright")


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of entry ``key``, and build it first if it is missing or damaged.

    Parameters
    ----------
    kind : str
        Group of the entry, a folder name.
    key : str
        Digest of everything that ``build`` depends on, see :func:`digest`.
    build : callable
        Fills the empty folder that it is given. It may leave anything there; every file in it becomes part of the
        entry. If it raises, nothing is kept.

    Raises
    ------
    CacheError
        The cache cannot be written.
    """
    parent = cache_root() / kind
    entry = parent / key
    with _clear_errors(every=True):
        parent.mkdir(parents=True, exist_ok=True)
    with _lock(parent / f"{key}.lock"):
        if not _intact(entry):
            with _clear_errors():
                _build(parent, key, build)
    return entry


def _build(parent: Path, key: str, build: Callable[[Path], None]) -> None:
    # We hold the lock of this key, so what stands here under its name was left behind by a builder that died.
    for leftover in parent.glob(f".{key}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=parent, prefix=f".{key}-"))
    try:
        build(work)
        (work / _MANIFEST).write_text(json.dumps(_fingerprint(work), indent=1, sort_keys=True))
        _remove(parent / key)
        work.rename(parent / key)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove(entry: Path) -> None:
    """Remove a damaged entry, whatever stands in its place."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _fingerprint(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _MANIFEST:
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _intact(entry: Path) -> bool:
    try:
        expected = json.loads((entry / _MANIFEST).read_text())
        return bool(expected) and _fingerprint(entry) == expected
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold ``path`` exclusively. The file stays, since removing it would let two waiters hold two files."""
    with _clear_errors(every=True):
        file = path.open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _clear_errors(*, every: bool = False) -> Iterator[None]:
    """Say in one line what is wrong with the cache folder, and what to do.

    A build may fail for reasons of its own, so there only some errors are the folder's; else ``every`` one is.
    """
    try:
        yield
    except OSError as error:
        if not every and error.errno not in _UNWRITABLE:
            raise
        raise CacheError(
            f"the cache folder must be writable, but {error.filename or cache_root()} is not: {error.strerror}. "
            f"Free some space, or set TILEWRIGHT_CACHE to another folder."
        ) from error
