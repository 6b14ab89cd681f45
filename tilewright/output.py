# SPDX-License-Identifier: Apache-2.0
"""What the command line shows: tables, progress, files."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from tilewright_driver.profile import LayerProfile, Profile
from tilewright_hdl.errors import TilewrightError
from tilewright_hdl.files import write_whole
from tilewright_hdl.program import Layer

if TYPE_CHECKING:
    from tilewright_mapper.check import Report

__all__ = [
    "check_target",
    "console",
    "errors",
    "host_notes",
    "layer_table",
    "plain_table",
    "print_check",
    "print_json",
    "print_profile",
    "progress_bar",
    "say",
    "say_distance",
    "status",
    "task_lines",
    "write_files",
    "write_text",
]

PIPE_WIDTH = 120
"""Columns of the output where it is no terminal that has a width of its own."""

# Names of layers and files are shown as they are, whatever brackets and colons they have.
FIGURE_WIDTH = 9
WORD_WIDTHS = {"network": len("autoencoder"), "layer": 20, "operator": 10, "on": len("array")}
"""Columns of a table that are never cut further; most others are as wide as their titles at least."""

CLOCK_HZ = 100_000_000
"""Clock of the accelerator in sentences that set its cycles beside the host's seconds."""

console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


def say(text: str) -> None:
    """Print a line, however long: one that holds a path must stay one."""
    console.print(text, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print data for machines."""
    print(json.dumps(data, indent=2))


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream, if that is a terminal; the value is called with how much is done."""
    with _progress(BarColumn(), MofNCompleteColumn(), quiet=quiet) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def status(what: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Like :func:`progress_bar`, for work of unknown length; the value is called with what is being done."""
    with _progress(quiet=quiet) as progress:
        task = progress.add_task(what, total=None)
        yield lambda step: progress.update(task, description=f"{what}: {step}")


class TaskLines:
    """Lines of things that run, each with its time."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def begin(self, name: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None)

    def end(self, name: str) -> None:
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))


@contextlib.contextmanager
def task_lines(*, quiet: bool = False) -> Iterator[TaskLines]:
    """Like :func:`status`, for several things at a time."""
    with _progress(quiet=quiet) as progress:
        yield TaskLines(progress)


def _progress(*columns: ProgressColumn, quiet: bool) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), *columns, TimeElapsedColumn(), console=errors,
        transient=True, disable=quiet or not errors.is_terminal,
    )


def check_target(path: Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Raises
    ------
    TilewrightError
    """
    folder = path.resolve().parent
    problem = "it is a folder" if path.is_dir() else "" if folder.is_dir() else f"there is no folder {folder}"
    if not problem and not os.access(path if path.exists() and not path.is_file() else folder, os.W_OK):
        problem = "permission denied"
    if problem:
        raise TilewrightError(f"File {path} cannot be written: {problem}")


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all. Raises as :func:`write_files` does."""
    write_files({path: text.encode()})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files that appear whole, all of them, or not at all.

    Raises
    ------
    TilewrightError
        If one cannot be written.
    """
    try:
        write_whole(files)
    except OSError as error:
        names = ", ".join(map(str, files))
        raise TilewrightError(f"File {names} cannot be written: {error.strerror or error}") from error


def layer_table(profile: Profile, title: str) -> Table:
    """Cycles of each layer, predicted beside measured, per image."""
    images = profile.images
    table = plain_table(title, words=("layer", "operator", "on"), figures=("MACs", "cycles", "predicted", "busy"),
                        more_words=("waits most for",))
    for layer in profile.layers:
        table.add_row(layer.name, layer.op, layer.on, *_cells(layer, images))
    table.add_section()
    table.add_row(
        "all", "", "", f"{profile.macs // images:,}", f"{profile.cycles // images:,}",
        f"{profile.predicted_cycles // images:,}", f"{profile.utilization:.1%}", "", style="bold",
    )
    return table


def plain_table(
    title: str, *, words: Iterable[str], figures: Iterable[str], more_words: Iterable[str]
) -> Table:
    """An empty table with columns of words, of figures, and of words again."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=True, min_width=WORD_WIDTHS.get(name, len(name)))
    for name in figures:
        # Where the terminal is narrow, words are cut, never figures.
        table.add_column(name, justify="right", no_wrap=True, min_width=FIGURE_WIDTH)
    for name in more_words:
        table.add_column(name, no_wrap=True, min_width=len(name))
    return table


def print_profile(profile: Profile, name: str) -> None:
    """Print what a run of the network ``name`` cost, layer by layer."""
    images = f"{profile.images} image{'s' if profile.images > 1 else ''}"
    console.print(layer_table(profile, f"{name} on {profile.device} ({profile.config}), {images}, per image"))
    if profile.setup_cycles:
        say(f"before the first image: {profile.setup_cycles:,} cycles to bring constants on chip, where they stay")
    whole = profile.cycles / CLOCK_HZ + profile.host_seconds
    for layer in profile.layers:
        if layer.on == "host":
            milliseconds = layer.host_seconds / profile.images * 1000
            say(f"on the host: {layer.name} ({layer.op}), {milliseconds:.2f} ms an image, "
                f"{layer.host_seconds / whole:.1%} of the time at {CLOCK_HZ // 10**6} MHz: {layer.reason}")


def print_check(report: "Report", name: str) -> None:
    """Print where each operator of the model ``name`` would run, and what keeps it from running."""
    counts = Counter(finding.place for finding in report.findings)
    title = f"{name} ({report.framework}) on {report.config}"
    table = plain_table(title, words=("operator", "where in the model", "runs on"), figures=(), more_words=())
    for finding in report.findings:
        place = _PLACES.get(finding.place, finding.place)
        table.add_row(finding.operator, finding.name, place, style="bold red" if finding.place == "refused" else None)
    console.print(table)
    for finding in report.findings:
        if finding.place == "host":
            say(f"on the host: {finding.name} ({finding.operator}): {finding.reason}")
    for problem in report.problems:
        say(f"problem: {problem}")
    summary = ", ".join(f"{count} {_PLACES.get(place, place)}" for place, count in counts.items())
    verdict = f"cannot be compiled: {len(report.problems)} problems" if report.problems else "can be compiled"
    say(f"{name} {verdict} ({summary})")


def say_distance(distance: Mapping[str, Any]) -> None:
    """Print how far the rounding rule that runs is from that of the model's framework."""
    layers, outputs = distance["layers"], distance["outputs"]
    say(f"rounding {distance['rounding']!r} instead of the framework's {distance['framework']!r}: layer by layer "
        f"{layers['differing']:,} of {layers['values']:,} values differ, by {layers['largest']} at most; at the end "
        f"{outputs['differing']:,} of {outputs['values']:,}, by {outputs['largest']} at most (random inputs)")


def host_notes(layers: Iterable[Layer]) -> None:
    """Print which layers run on the host, and why: in lines of their own, since reasons are long."""
    for layer in layers:
        if layer.on == "host":
            say(f"on the host: {layer.name} ({layer.op}): {layer.reason}")


_PLACES = {"post": "post-processor", "none": "nowhere: costs nothing"}
"""Places in more words than they have."""


def _cells(layer: LayerProfile, images: int) -> tuple[str, ...]:
    """From MACs on; ``busy`` is the share of the array's peak."""
    if layer.on == "host":
        return ("-",) * 5
    cause, cycles = max(layer.stalls.items(), key=lambda item: item[1], default=("", 0))
    return (
        f"{layer.macs // images:,}" if layer.macs else "-",
        f"{layer.cycles // images:,}",
        f"{layer.predicted_cycles // images:,}",
        f"{layer.utilization:.1%}" if layer.macs else "-",
        f"{cause} ({cycles // images:,})" if cycles else "-",
    )
