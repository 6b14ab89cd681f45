# SPDX-License-Identifier: Apache-2.0
"""What the command line shows: tables, progress, files."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tilewright_driver.profile import LayerProfile, Profile
from tilewright_hdl.errors import TilewrightError
from tilewright_hdl.program import Layer

__all__ = ["console", "host_notes", "layer_table", "print_json", "progress_bar", "status", "write_text"]

PIPE_WIDTH = 120
"""Columns of the output where it is no terminal that has a width of its own."""

console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
errors = Console(stderr=True)


def print_json(data: Any) -> None:
    """Print data for machines."""
    print(json.dumps(data, indent=2))


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream; the value is called with how much is done."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )
    with Progress(*columns, console=errors, transient=True, disable=quiet) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def status(what: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A spinner on the error stream for work of unknown length; the value is called with what is being done."""
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=errors, transient=True,
        disable=quiet,
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda step: progress.update(task, description=f"{what}: {step}")


def write_text(path: str | Path, text: str) -> None:
    """Write a file that appears whole or not at all.

    Raises
    ------
    TilewrightError
        If it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Like :func:`write_text`, for bytes."""
    path, temporary = Path(path), ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except OSError as error:
        raise TilewrightError(f"File {path} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def layer_table(profile: Profile, title: str) -> Table:
    """Cycles of each layer, predicted beside measured, per image."""
    images = profile.images
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "operator", "on"):
        table.add_column(name, no_wrap=True)
    for name in ("MACs", "cycles", "predicted", "busy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("waits most for", no_wrap=True)
    for layer in profile.layers:
        table.add_row(layer.name, layer.op, layer.on, *_cells(layer, images))
    table.add_section()
    table.add_row(
        "all", "", "", f"{profile.macs // images:,}", f"{profile.cycles // images:,}",
        f"{profile.predicted_cycles // images:,}", f"{profile.utilization:.1%}", "", style="bold",
    )
    return table


def host_notes(layers: Iterable[Layer | LayerProfile]) -> None:
    """Print which layers run on the host, and why: in lines of their own, since reasons are long."""
    for layer in layers:
        if layer.on == "host":
            console.print(f"on the host: {layer.name} ({layer.op}): {layer.reason}", soft_wrap=True)


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
