# SPDX-License-Identifier: Apache-2.0
"""Child processes that end when we end."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finished", "run_all"]

_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit code, everything that it printed, and how many seconds it took."""

    command: Sequence[str]
    returncode: int
    output: str
    timed_out: bool = False
    seconds: float = 0.0


def run_all(
    commands: Sequence[Sequence[str]],
    *,
    cwd: Path | Sequence[Path],
    env: Mapping[str, str] | None = None,
    jobs: int = 1,
    timeout: float | None = None,
    keep_going: bool = False,
    ended: Callable[[int, Finished], None] | None = None,
) -> list[Finished]:
    """Run commands, ``jobs`` at a time, and return how they ended, in the order in which they ended.

    ``cwd`` is for all, or one for each. No further command starts once one has failed or run for ``timeout`` seconds,
    unless we are to ``keep_going``. ``ended`` is called at the end of each, with its place in ``commands``. Each runs
    in a process group of its own; whatever interrupts us (Ctrl-C included) kills the groups first.
    """
    folders = [cwd] * len(commands) if isinstance(cwd, Path) else cwd
    waiting = list(enumerate(zip(commands, folders, strict=True)))
    running: list[_Child] = []
    finished: list[Finished] = []
    failed = False
    try:
        while running or (waiting and not failed):
            while waiting and not failed and len(running) < jobs:
                with _interrupt_deferred():
                    place, (command, folder) = waiting.pop(0)
                    running.append(_Child(place, command, folder, env, timeout))
            time.sleep(_POLL_SECONDS)
            for child in [child for child in running if child.ended()]:
                running.remove(child)
                finished.append(child.result())
                failed = failed or (finished[-1].returncode != 0 and not keep_going)
                if ended is not None:
                    ended(child.place, finished[-1])
    finally:
        for child in running:
            child.kill()
    return finished


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Let a Ctrl-C wait until the end of the block: in the middle of it, nobody would know of a child that runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Such a thread is never interrupted.
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        signal.raise_signal(signal.SIGINT)


class _Child:
    def __init__(self, place: int, command: Sequence[str], cwd: Path, env: Mapping[str, str] | None,
                 timeout: float | None):
        self.place = place
        self._command = command
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by result()
        self._start = time.monotonic()
        self._deadline = None if timeout is None else self._start + timeout
        self._timed_out = False
        self._process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ended(self) -> bool:
        if self._process.poll() is None and self._deadline is not None and time.monotonic() > self._deadline:
            self._timed_out = True
            self.kill()
        return self._process.poll() is not None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # It may have ended in the meantime.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def result(self) -> Finished:
        with self._output as output:
            output.seek(0)
            text = output.read().decode(errors="replace")
        return Finished(self._command, self._process.returncode, text, self._timed_out, time.monotonic() - self._start)
