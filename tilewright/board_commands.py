# SPDX-License-Identifier: Apache-2.0
"""``tilewright build`` and ``tilewright program``: bitstreams, and boards that get them."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tilewright_boards.board import Board, load_board
from tilewright_boards.build import BuildResult, build, product
from tilewright_boards.program import program
from tilewright_boards.stages import Event

from .output import console, errors, plain_table, print_json, say, status, task_lines

__all__ = ["build_board", "print_build", "program_board", "stage_lines"]


def build_board(options: argparse.Namespace) -> int:
    """``tilewright build``: 0 if the design fits and, unless it was only checked, meets timing or need not."""
    board = load_board(options.board)
    with stage_lines(quiet=options.json) as progress:
        result = build(board, directory=options.directory, check=options.check, seeds=options.seeds,
                       allow_timing_fail=options.allow_timing_fail, progress=progress)
    if options.json:
        print_json(result.report | {"folder": str(result.folder), "bitstream": _path(result)})
    else:
        print_build(board, result, check=options.check)
    return 0 if result.fits and (options.check or result.bitstream is not None) else 1


def program_board(options: argparse.Namespace) -> int:
    """``tilewright program``."""
    board = load_board(options.board)
    bitstream = options.bitstream or product(board, options.directory)
    with status(f"Loading {bitstream} into {board.title}"):
        program(board, bitstream)
    say(f"{bitstream} is in {board.title}; `tilewright devices` shows whether it answers")
    return 0


@contextlib.contextmanager
def stage_lines(*, quiet: bool) -> Iterator[Callable[[Event], None]]:
    """Shows stages on the error stream: a line for each that is over, and on a terminal a clock for those that run."""
    with task_lines(quiet=quiet) as tasks:
        def show(event: Event) -> None:
            if event.seconds is None:
                tasks.begin(event.stage)
                return
            tasks.end(event.stage)
            if not quiet:
                done = "done before" if event.reused else "done"
                errors.print(f"{event.stage}: {done}, {event.seconds:.1f} s", soft_wrap=True)

        yield show


def print_build(board: Board, result: BuildResult, *, check: bool) -> None:
    """Print what a design takes, how fast it is, and where its time goes."""
    routed, report = result.routed, result.report
    uses = result.uses if routed is None else routed.uses
    table = plain_table(f"{board.title}, {board.config.array.pes} PEs at {board.clock_hz / 1e6:g} MHz: "
                        f"{'after synthesis' if routed is None else 'placed and routed'}",
                        words=("resource",), figures=("used", "available", "percent"), more_words=())
    for use in uses:
        table.add_row(use.resource, f"{use.used:,}", f"{use.available:,}", f"{use.percent:.1f}",
                      style=None if use.fits else "bold red")
    console.print(table)
    if routed is not None:
        _print_timing(report)
    verdict = _verdict(result, check=check)
    say(f"{board.name}: {verdict} (build {result.digest[:16]}, {sum(report['seconds'].values()):.0f} s of work)")
    if result.bitstream is not None:
        say(f"Bitstream: {result.bitstream}")
    say(f"Report: {result.folder / 'report.json'}")


def _print_timing(report: dict[str, Any]) -> None:
    table = plain_table("clocks", words=("clock", ""), figures=("asked MHz", "reaches MHz"), more_words=())
    for clock in report["clocks"]:
        table.add_row(clock["name"], "" if clock["met"] else "too slow", f"{clock['asked_mhz']:.2f}",
                      f"{clock['achieved_mhz']:.2f}", style=None if clock["met"] else "bold red")
    console.print(table)
    for path in report["critical_paths"][:1]:
        table = plain_table(f"critical path of {path['clock']}: {path['delay_ns']:.2f} ns", words=("module",),
                            figures=("logic ns", "routing ns"), more_words=())
        for part in path["modules"]:
            table.add_row(part["module"], f"{part['logic_ns']:.2f}", f"{part['routing_ns']:.2f}")
        console.print(table)
    say(f"{report['luts']:,} LUTs, {report['luts_per_pe']:.1f} a PE; seed {report['seed']} of {len(report['seeds'])}")


def _verdict(result: BuildResult, *, check: bool) -> str:
    if not result.fits:
        too_much = ", ".join(f"{use.used:,} {use.resource} of {use.available:,}" for use in result.uses if not use.fits)
        return f"does not fit: {too_much}; make its configuration smaller"
    if check:
        return "fits"
    if result.routed is not None and result.routed.met:
        return "fits and meets timing"
    if result.bitstream is not None:
        return "does not meet timing, which is allowed"
    return "does not meet timing: try more --seeds, or a slower clock; or --allow-timing-fail"


def _path(result: BuildResult) -> str | None:
    return None if result.bitstream is None else str(result.bitstream)
