# SPDX-License-Identifier: Apache-2.0
"""The engines over time."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tilewright_hdl.isa import ENGINES, Engine

from .chart import hue
from .figures import Figures
from .markup import Markup, element, number

__all__ = ["merged", "timeline"]

MOST_INTERVALS = 8000
"""Intervals that are drawn; beyond that, neighbours become one."""
_BAR = 0.8
"""Share of a row that a bar takes."""
_MARKS = 6

Interval = tuple[int, int, int]
"""Start, end, layer."""


def merged(intervals: Iterable[Interval], gap: int) -> Iterator[Interval]:
    """Intervals in order; neighbours of one layer that are at most ``gap`` cycles apart are one."""
    current: Interval | None = None
    for start, end, layer in intervals:
        if current and current[2] == layer and start - current[1] <= gap:
            current = (current[0], max(current[1], end), layer)
            continue
        if current:
            yield current
        current = (start, end, layer)
    if current:
        yield current


def timeline(figures: Figures) -> Markup:
    """One row for each engine; script lets one zoom and move."""
    total = max(figures.cycles, 1)
    rows = {engine: [i for run in figures.runs for i in run.intervals[engine]] for engine in ENGINES}
    gap = 0
    drawn = {engine: list(merged(line, gap)) for engine, line in rows.items()}
    while sum(map(len, drawn.values())) > MOST_INTERVALS and gap < total:
        gap = 2 * gap + 1
        drawn = {engine: list(merged(line, gap)) for engine, line in rows.items()}
    paths = [path for engine in ENGINES for path in _paths(figures, engine, drawn[engine], rows[engine])]
    lines = [element("line", x1=run.offset, x2=run.offset, y1=0, y2=len(ENGINES), class_="run")
             for run in figures.runs[1:]]
    drawing = element(
        "svg", *paths, *lines, viewBox=f"0 0 {total} {len(ENGINES)}", preserveAspectRatio="none", data_total=total,
        role="img", aria_label="Timeline of the engines; the table of layers has its figures")
    axis = [element("span", number(total * i / (_MARKS - 1)), style=f"left:{100 * i / (_MARKS - 1):.0f}%")
            for i in range(_MARKS)]
    controls = [element("button", label, type="button", data_zoom=what, title=title, aria_label=title)
                for label, what, title in (("+", "in", "Zoom in"), ("-", "out", "Zoom out"), ("◀", "left", "Earlier"),
                                           ("▶", "right", "Later"), ("all", "all", "Show all"))]
    names = [element("span", f"{engine.name} {_busy(rows[engine]) / total:.0%}") for engine in ENGINES]
    return element(
        "section", element("h2", "Timeline"), element("div", *controls, class_="controls"),
        element("div", element("div", *names, class_="engines"),
                element("div", drawing, element("div", *axis, class_="axis"), class_="window", tabindex=0,
                        role="group", aria_label="Timeline: plus and minus zoom, arrows move, 0 shows all"),
                class_="timeline"),
        element("p", _caption(figures, gap), class_="caption"))


def _caption(figures: Figures, gap: int) -> str:
    closed = f" Gaps of up to {number(gap)} cycles within a layer are closed." if gap else ""
    runs = " Runs of the accelerator stand one behind the other; the host's time between them is not shown." * (
        len(figures.runs) > 1)
    return (f"Each row is an engine, with the share of all cycles in which it has an instruction; colours are layers. "
            f"Cycles of the cycle model, main memory at its default latency. Wheel or + and - zoom, dragging or arrows "
            f"move.{closed}{runs}")


def _paths(figures: Figures, engine: Engine, drawn: list[Interval], all_: list[Interval]) -> Iterator[Markup]:
    """One path for each layer."""
    count, cycles = Counter(i[2] for i in all_), Counter[int]()
    pieces: dict[int, list[str]] = {}
    top = int(engine) + (1 - _BAR) / 2
    for start, end, place in drawn:
        pieces.setdefault(place, []).append(f"M{start} {top:.1f}h{end - start}v{_BAR}h{start - end}z")
        cycles[place] += end - start
    for place, parts in pieces.items():
        tip = (f"{engine.name} of {place}: {figures.layers[place].name}\n"
               f"{number(count[place])} instructions, {number(cycles[place])} cycles under way")
        yield element("path", d="".join(parts), class_="layer", style=hue(place), data_layer=place, data_tip=tip)


def _busy(intervals: list[Interval]) -> int:
    """Cycles in which an engine has an instruction."""
    total = reached = 0
    for start, end, _ in intervals:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
