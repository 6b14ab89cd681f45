# SPDX-License-Identifier: Apache-2.0
"""Tables of the benchmarks' results, on the terminal and in Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tilewright_sim.layer_cycles import STALL_CAUSES

from .output import console, plain_table

__all__ = ["CAUSES", "fill", "lost", "markdown", "print_results"]

Result = Mapping[str, Any]
"""What ``tilewright bench --json`` prints for a network, or one of its layers."""

UNFILLED = "unfilled"
CAUSES = {UNFILLED: "a vector entered, but rows or columns of the array had nothing to do", **STALL_CAUSES}
"""Where cycles beyond the bound go."""

MOST_LAYERS = 5
"""Layers that the page of documentation names for each network."""

SMALLEST_SHARE = 0.02
"""Of all cycles: causes of less are not named in a row."""

NETWORK_WORDS, NETWORK_FIGURES = ("network",), ("bound", "cycles", "predicted", "busy", "bus KiB", "differ")
LAYER_WORDS, LAYER_FIGURES = ("layer", "operator"), ("bound", "cycles", "predicted", "busy", "bus KiB")
LOST = "lost to"


def lost(result: Result) -> dict[str, int]:
    """Cycles beyond the bound by cause (:data:`CAUSES`), the largest first; they and the bound add up to all cycles."""
    found = {UNFILLED: result["vectors"] - result["bound"], **result["stalls"]}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def print_results(results: Sequence[Result], *, layers: bool) -> None:
    """Print a row for each network and, if wanted, one for each layer."""
    first = results[0]
    table = plain_table(f"One inference on {first['device']} ({first['config']})", words=NETWORK_WORDS,
                        figures=NETWORK_FIGURES, more_words=(LOST,))
    for result in results:
        table.add_row(*_network_cells(result), _reasons(result), style="bold red" if result["mismatches"] else None)
    console.print(table)
    for result in results if layers else ():
        table = plain_table(result["network"], words=LAYER_WORDS, figures=LAYER_FIGURES, more_words=(LOST,))
        for layer in result["layers"]:
            table.add_row(*_layer_cells(layer), _reasons(layer))
        console.print(table)


def markdown(results: Sequence[Result]) -> str:
    """All tables, those of the layers too."""
    first = results[0]
    parts = [f"# One inference on {first['device']} ({first['config']})", _table(
        NETWORK_WORDS, NETWORK_FIGURES, [(*_network_cells(result), _reasons(result)) for result in results], (LOST,))]
    for result in results:
        rows = [(*_layer_cells(layer), _reasons(layer)) for layer in result["layers"]]
        parts += [f"## {result['network']}", _table(LAYER_WORDS, LAYER_FIGURES, rows, (LOST,))]
    return "\n\n".join(parts) + "\n"


def fill(page: str, record: Sequence[Result], targets: Mapping[str, int]) -> str:
    """A page with the tables between its marks made anew.

    ``<!-- table networks -->`` and ``<!-- end -->`` enclose the table of all networks, the same with a network's name
    what is known of its cycles.

    Raises
    ------
    ValueError
        If a pair of marks is missing.
    """
    blocks = {"networks": _targets(record, targets)} | {result["network"]: _breakdown(result) for result in record}
    for name, text in blocks.items():
        mark, end = f"<!-- table {name} -->", "<!-- end -->"
        before, *rest = re.split(f"{mark}.*?{end}", page, flags=re.DOTALL)
        if len(rest) != 1:
            raise ValueError(f"The page must have {mark} and, behind it, {end} once, not {len(rest)} times")
        page = f"{before}{mark}\n\n{text}\n\n{end}{rest[0]}"
    return page


def _targets(record: Sequence[Result], targets: Mapping[str, int]) -> str:
    rows = [(result["network"], f"{result['macs']:,}", f"{result['bound']:,}", f"{result['cycles']:,}",
             f"{targets[result['network']]:,}", f"{result['utilization']:.1%}", _kilobytes(result),
             f"{result['mismatches']} of {result['outputs']:,}")
            for result in record]
    figures = ("MACs", "bound", "cycles", "must reach", "of the peak", "bus KiB", "outputs that differ")
    return _table(("network",), figures, rows)


def _breakdown(result: Result) -> str:
    cycles = result["cycles"]
    rows = [("bound", f"{result['bound']:,}", f"{result['bound'] / cycles:.1%}", "all of the array at work"),
            *((cause, f"{count:,}", f"{count / cycles:.1%}", CAUSES[cause])
              for cause, count in lost(result).items() if count)]
    worst = sorted(result["layers"], key=lambda layer: layer["bound"] - layer["cycles"])[:MOST_LAYERS]
    layers = [(layer["name"], f"{layer['bound']:,}", f"{layer['cycles']:,}", f"{layer['utilization']:.1%}",
               f"{(layer['cycles'] - layer['bound']) / cycles:.1%}", _reasons(layer)) for layer in worst]
    return "\n\n".join((
        _table(("cycles go to",), ("cycles", "share"), rows, ("which is",)),
        _table(("layers that lose most",), ("bound", "cycles", "of the peak", "share lost"), layers, (LOST,)),
    ))


def _network_cells(result: Result) -> tuple[str, ...]:
    return result["network"], *_cost_cells(result), str(result["mismatches"])


def _layer_cells(layer: Result) -> tuple[str, ...]:
    return layer["name"], layer["op"], *_cost_cells(layer)


def _cost_cells(result: Result) -> tuple[str, ...]:
    return (f"{result['bound']:,}", f"{result['cycles']:,}", f"{result['predicted_cycles']:,}",
            f"{result['utilization']:.1%}", _kilobytes(result))


def _kilobytes(result: Result) -> str:
    return f"{sum(result['traffic'].values()) / 1024:,.1f}"


def _reasons(result: Result) -> str:
    """Causes of the most cycles beyond the bound, with their shares of all cycles."""
    shares = {cause: count / max(1, result["cycles"]) for cause, count in lost(result).items()}
    return ", ".join(f"{cause} {share:.0%}" for cause, share in shares.items() if share >= SMALLEST_SHARE)


def _table(
    words: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]], more_words: Sequence[str] = ()
) -> str:
    rule = ["---"] * len(words) + ["--:"] * len(figures) + ["---"] * len(more_words)
    return "\n".join(f"| {' | '.join(line)} |" for line in ((*words, *figures, *more_words), rule, *rows))
