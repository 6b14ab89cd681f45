# SPDX-License-Identifier: Apache-2.0
"""Where the cycles go: roofline, utilization, and the sum of all cycles by what they were spent on."""

import math
from typing import NamedTuple

from .chart import Labels, Scale, decades, figure, layer_mark, text, ticks
from .figures import Figures, LayerFigures
from .markup import Markup, clean, element, number, percent, shape, short, whole
from .transfers import Cause

__all__ = ["breakdown", "roofline", "utilization"]

_WIDTH, _HEIGHT = 620, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 46
_ASIDE, _MOST_ASIDE, _STEP = 120, 260, 24
"""Width of the strip for layers without traffic: at least, at most, and for each of them."""
_LARGEST = 22
"""Radius that a layer of all cycles would add to the smallest."""
_SMALLEST = 4
_FAR = 1e9
"""An intensity beyond that of any layer."""
_ABOVE = 22
"""Distance of the roof's name from the roof, so that discs below it do not cover it."""


def _tip(layer: LayerFigures) -> str:
    work = (f"{percent(layer.utilization)} of the array's peak\nbound {whole(layer.bound)} cycles" if layer.bound
            else "no products")
    return f"{layer.number}: {layer.name} ({clean(layer.layer.op)})\n{number(layer.cycles)} cycles, {work}"


def _intensity(layer: LayerFigures) -> float | None:
    """MACs per byte in the busier direction of the bus; none without traffic."""
    busier = max(layer.constants + layer.loaded, layer.stored)
    return layer.layer.macs / busier if busier else None


class _Disc(NamedTuple):
    """A layer's place in the roofline."""

    layer: LayerFigures
    x: float
    y: float
    radius: float
    tip: str


def roofline(figures: Figures) -> Markup:
    """Every layer with products: how fast it is, over how much it computes with what it moves."""
    pes, beat = figures.config.array.pes, figures.config.bus.data_bytes
    layers = sorted((layer for layer in figures.layers if layer.bound and layer.cycles), key=lambda x: -x.cycles)
    moving = [value for layer in layers if (value := _intensity(layer)) is not None]
    slowest = min((layer.layer.macs / layer.cycles for layer in layers), default=pes)
    still = sorted(layer.number for layer in layers if _intensity(layer) is None)
    aside = min(_MOST_ASIDE, max(_ASIDE, _STEP * len(still))) if still else 0
    right = _WIDTH - _RIGHT - aside
    x = Scale(min(pes / beat / 4, *moving, _FAR) / 2, max(pes / beat, *moving, 0) * 3, _LEFT, right, True)
    y = Scale(min(pes / 100, slowest / 2), pes * 3, _HEIGHT - _BOTTOM, _TOP, True)
    beside = {number: right + aside * (i + 0.5) / len(still) for i, number in enumerate(still)}
    discs = [_disc(figures, layer, x, y, beside.get(layer.number)) for layer in layers]
    labels = Labels(_WIDTH, _HEIGHT - _BOTTOM)
    for disc in discs:
        labels.keep_free(disc.x, disc.y, disc.radius)
    parts = [*_grid(x, y), _roofs(x, y, pes, beat, discs, labels)]
    for disc in discs:
        parts.append(layer_mark("circle", disc.layer, disc.tip, cx=disc.x, cy=disc.y, r=disc.radius))
        labels.add(disc.x, disc.y, disc.radius, short(disc.layer.name, 22), str(disc.layer.number))
    if aside:
        parts += [text(right + aside / 2, _HEIGHT - _BOTTOM + 16, "no traffic, in order", anchor="middle"),
                  shape("line", x1=right, x2=right, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid")]
    parts += [labels.draw(), text((_LEFT + right) / 2, _HEIGHT - 8, "MACs per byte of main memory", anchor="middle"),
              text(_LEFT, _TOP - 3, "MACs a cycle")]
    return figure(
        "Roofline",
        f"Each disc is a layer with products, as large as its cycles. Flat roof: {pes} PEs; slanted roof: the bus, "
        f"{beat} bytes a cycle in each direction, so a layer's bytes are those of its busier direction. A layer may "
        "lie above the slanted roof where its weights came while an earlier one computed. Layers that move nothing "
        "stand to the right.",
        _WIDTH, _HEIGHT, parts)


def _disc(figures: Figures, layer: LayerFigures, x: Scale, y: Scale, beside: float | None) -> _Disc:
    """Place of a layer, which is ``beside`` the axis without traffic."""
    rate, intensity = layer.layer.macs / layer.cycles, _intensity(layer)
    moved = "no DRAM traffic" if intensity is None else f"{intensity:,.1f} MACs per byte"
    return _Disc(layer, x(intensity) if intensity is not None else beside or x.last, y(rate),
                 _SMALLEST + _LARGEST * (layer.cycles / figures.cycles) ** 0.5,
                 f"{_tip(layer)}\n{rate:,.1f} MACs a cycle, {moved}")


def _grid(x: Scale, y: Scale) -> list[Markup]:
    parts = []
    for value in decades(x.low, x.high):
        parts += [shape("line", x1=x(value), x2=x(value), y1=y.first, y2=y.last, class_="grid"),
                  text(x(value), y.first + 16, f"{value:,g}", anchor="middle")]
    for value in decades(y.low, y.high):
        parts += [shape("line", x1=x.first, x2=x.last, y1=y(value), y2=y(value), class_="grid"),
                  text(x.first - 6, y(value) + 4, f"{value:,g}", anchor="end")]
    return parts


def _roofs(x: Scale, y: Scale, pes: int, beat: int, discs: list[_Disc], labels: Labels) -> Markup:
    # The bus's roof enters the frame at its left or at its bottom.
    start = max(x.low, y.low / beat)
    (x0, y0), (x1, y1) = (x(start), y(start * beat)), (x(pes / beat), y(pes))
    along = [(x0 + (x1 - x0) * t / 20, y0 + (y1 - y0) * t / 20) for t in range(5, 17)]
    # Its name stands where it is farthest from all discs.
    at = max(along, key=lambda place: min((math.dist(place, (d.x, d.y)) for d in discs), default=0))
    angle = math.atan2(y1 - y0, x1 - x0)
    for step in range(-60, 61, 15):
        labels.keep_free(at[0] + step * math.cos(angle), at[1] + step * math.sin(angle) - 8, 8)
    labels.keep_free(_WIDTH - _RIGHT - 80, y1 - _ABOVE - 4, 80, 10)
    return element(
        "g", element("polyline", class_="roof",
                     points=f"{x0:.1f},{y0:.1f} {x1:.1f},{y1:.1f} {_WIDTH - _RIGHT},{y1:.1f}"),
        element("text", f"bus: {beat} bytes a cycle", class_="strong", text_anchor="middle",
                transform=f"translate({at[0]:.1f} {at[1] - 7:.1f}) rotate({math.degrees(angle):.1f})"),
        text(_WIDTH - _RIGHT, y1 - _ABOVE, f"array: {pes} MACs a cycle", class_="strong", anchor="end"))


def utilization(figures: Figures) -> Markup:
    """A bar for each layer, as wide as its cycles and as high as its utilization: the area is the work done."""
    x = Scale(0, max(figures.cycles, 1), _LEFT, _WIDTH - _RIGHT)
    y = Scale(0, 1, _HEIGHT - _BOTTOM, _TOP + 12)
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts += [shape("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(share), y2=y(share), class_="grid"),
                  text(_LEFT - 6, y(share) + 4, f"{share:.0%}", anchor="end")]
    for value in ticks(x.high):
        parts.append(text(x(value), y.first + 16, number(value), anchor="middle"))
    reached, last_label = 0, -99.0
    for layer in figures.layers:
        first, last = x(reached), x(reached + layer.cycles)
        reached += layer.cycles
        if not layer.cycles:
            continue
        top = y(min(1.0, layer.utilization))
        tip = _tip(layer)
        # What is not used is part of the bar to point at, so that thin or empty ones can be found.
        parts.append(layer_mark("rect", layer, tip, class_="rest", x=first, y=y.last, width=max(0.5, last - first),
                                height=y.first - y.last))
        parts.append(layer_mark("rect", layer, tip, focus=False, x=first, y=top, width=max(0.5, last - first - 0.6),
                                height=y.first - top))
        middle = (first + last) / 2
        if last - first > 10 and middle - last_label > 7 * len(str(layer.number)) + 3:
            parts.append(text(middle, y.last - 4, str(layer.number), anchor="middle", class_="label"))
            last_label = middle
    parts.append(text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "cycles", anchor="middle"))
    return figure(
        "Utilization",
        "Each bar is a layer, as wide as its cycles and as high as the share of the array's peak that it reaches; "
        "numbers are those of the table of layers. Colours are the same in all charts.",
        _WIDTH, _HEIGHT, parts)


def breakdown(figures: Figures) -> Markup:
    """All cycles, by what they were spent on."""
    layers = figures.layers
    rows = [
        ("useful", "products, as if all PEs were busy", sum(layer.useful for layer in layers)),
        ("unfilled", "PEs without a product: channels that do not fill the array", sum(x.unfilled for x in layers)),
        *((f"lost-{cause.name.lower()}", f"array waits: {cause}", figures.lost(cause)) for cause in Cause),
    ]
    shown = [(kind, name, cycles) for kind, name, cycles in rows if cycles >= 0.5]
    total = max(figures.cycles, 1)
    bar = element("div", *(
        element("span", class_=f"part {kind}", style=f"flex-grow:{cycles:.1f}", title=f"{name}: {number(cycles)}")
        for kind, name, cycles in shown
    ), class_="stack", aria_hidden="true")
    body = [
        element("tr", element("td", element("i", class_=f"key {kind}"), " ", name), element("td", number(cycles)),
                element("td", percent(cycles / total)))
        for kind, name, cycles in shown
    ]
    return element(
        "section", element("h2", "Where the cycles go"), bar,
        element("table", element("caption", f"All {number(figures.cycles)} cycles of an inference, each counted once",
                                 class_="hidden"),
                element("thead", element("tr", element("th", "spent on", scope="col"),
                                         element("th", "cycles", scope="col"), element("th", "share", scope="col"))),
                element("tbody", *body), class_="plain"))
