# SPDX-License-Identifier: Apache-2.0
"""The folder of a build: a folder for each finished stage, and nothing half-written.

A stage works in a folder with another name, which gets its own when the stage has ended well. What it takes from
stages before is copied into that folder, where tools find it that see only what lies below their current folder, and
taken away at the end.
"""

import contextlib
import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tilewright_hdl.errors import BuildError
from tilewright_hdl.processes import Finished, run_all

__all__ = ["Event", "Job", "Stages", "locked"]

_DONE = "stage.json"
_WORK = ".half-"
_LONGEST_SECONDS = 6 * 3600
"""A tool that takes longer will never end."""
_SHOWN_LINES = 12


@dataclass(frozen=True)
class Event:
    """What happens to a stage.

    Members
    -------
    stage : str
    seconds : float or None
        That it took; ``None`` when it begins.
    reused : bool
        It was finished before.
    """

    stage: str
    seconds: float | None = None
    reused: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage that a tool does.

    Members
    -------
    name : str
        Of the stage and its folder.
    sources : tuple of str
        Finished stages whose files it works on.
    command : tuple of str
    """

    name: str
    sources: tuple[str, ...]
    command: tuple[str, ...]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder, and hold it: others who want it wait.

    Raises
    ------
    BuildError
        If it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise BuildError(f"Build folder {folder} must be writable, but is not: {error.strerror or error}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for leftover in folder.glob(f"{_WORK}*"):
            shutil.rmtree(leftover)  # Of a process that was killed: we hold the lock.
        yield


class Stages:
    """Stages of a build, in a folder that is locked.

    Parameters
    ----------
    folder : Path
    announce : callable
        Takes each :class:`Event`.
    """

    def __init__(self, folder: Path, announce: Callable[[Event], None]):
        self._folder = folder
        self._announce = announce

    def folder(self, name: str) -> Path:
        """Folder of a finished stage."""
        return self._folder / name

    def finished(self, name: str) -> bool:
        return (self.folder(name) / _DONE).is_file()

    def seconds(self, name: str) -> float:
        """That a finished stage took."""
        return float(json.loads((self.folder(name) / _DONE).read_text(encoding="utf-8"))["seconds"])

    def fill(self, name: str, make: Callable[[Path], None], spent: float = 0.0) -> None:
        """A stage that is Python: ``make`` fills a folder. ``spent`` seconds went into it before."""
        if self._reused(name):
            return
        start = time.monotonic() - spent
        with self._work() as work:
            make(work)
            self._finish(work, name, time.monotonic() - start)

    def run(self, jobs: Sequence[Job], *, at_once: int = 1) -> list[str]:
        """Stages that are tools, ``at_once`` at a time; those that are finished are not run again.

        Returns
        -------
        list of str
            Of each that failed, why; the others are finished.
        """
        jobs = [job for job in jobs if not self._reused(job.name)]
        problems = []
        with contextlib.ExitStack() as stack:
            works = [stack.enter_context(self._work(job.sources)) for job in jobs]

            def ended(place: int, result: Finished) -> None:
                if result.returncode == 0:
                    for path in self._files(jobs[place].sources):
                        (works[place] / path.name).unlink(missing_ok=True)
                    self._finish(works[place], jobs[place].name, result.seconds)
                else:
                    problems.append(_problem(jobs[place].name, result))

            for job in jobs:
                self._announce(Event(job.name))
            run_all([job.command for job in jobs], cwd=works, jobs=at_once, timeout=_LONGEST_SECONDS, keep_going=True,
                    ended=ended)
        return problems

    def _reused(self, name: str) -> bool:
        if self.finished(name):
            self._announce(Event(name, self.seconds(name), reused=True))
            return True
        return False

    @contextlib.contextmanager
    def _work(self, sources: Sequence[str] = ()) -> Iterator[Path]:
        """A new folder with the files of stages; removed, unless it has got another name."""
        work = Path(tempfile.mkdtemp(dir=self._folder, prefix=_WORK))
        try:
            for path in self._files(sources):
                shutil.copyfile(path, work / path.name)
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _files(self, sources: Sequence[str]) -> list[Path]:
        return [path for source in sources for path in sorted(self.folder(source).iterdir()) if path.name != _DONE]

    def _finish(self, work: Path, name: str, seconds: float) -> None:
        (work / _DONE).write_text(json.dumps({"seconds": round(seconds, 1)}), encoding="utf-8")
        work.rename(self.folder(name))
        self._announce(Event(name, seconds))


def _problem(name: str, result: Finished) -> str:
    if result.timed_out:
        return f"{name} did not end within {_LONGEST_SECONDS // 3600} hours"
    lines = [line for line in result.output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-_SHOWN_LINES:]
    return f"{name} ended with exit code {result.returncode}: {' / '.join(errors)}"
