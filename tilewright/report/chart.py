# SPDX-License-Identifier: Apache-2.0
"""What the charts share: a frame with axes, marks of layers, labels that do not cover each other."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .figures import LayerFigures
from .markup import Markup, element, join, shape

__all__ = ["Labels", "Scale", "decades", "figure", "hue", "layer_mark", "text", "ticks"]

_GOLDEN_ANGLE = 137.508
"""Hues that many degrees apart never come close, however many there are."""
_LETTER = 6.3
"""Width of a letter of a label."""


def hue(number: int) -> str:
    """Style that gives a layer its colour, in all charts."""
    return f"--h:{number * _GOLDEN_ANGLE % 360:.0f}"


def layer_mark(name: str, layer: LayerFigures, tip: str, *, focus: bool = True, **attributes: object) -> Markup:
    """A shape that stands for a layer; ``tip`` is shown on hover and focus, and read to those who do not see it."""
    access = {"tabindex": 0, "role": "img", "aria_label": tip} if focus else {}
    classes = f"layer {attributes.pop('class_', '')}".strip()
    return shape(name, class_=classes, style=hue(layer.number), data_layer=layer.number, data_tip=tip, **access,
                 **attributes)


def text(x: float, y: float, value: str, *, class_: str | None = None, anchor: str | None = None) -> Markup:
    """A label of a chart."""
    return element("text", value, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def figure(title: str, caption: str, width: int, height: int, parts: Iterable[str]) -> Markup:
    """A drawing with its caption."""
    drawing = element("svg", *parts, viewBox=f"0 0 {width} {height}", role="group", aria_label=title)
    return element("figure", element("h2", title), drawing, element("figcaption", caption))


@dataclass(frozen=True)
class Scale:
    """From values to places, straight or in logarithms."""

    low: float
    high: float
    first: float
    last: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.first + (at - low) / (high - low) * (self.last - self.first)


def decades(low: float, high: float) -> Iterator[float]:
    """Powers of ten from ``low`` to ``high``."""
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        yield 10.0**power


def ticks(high: float, count: int = 5) -> Iterator[float]:
    """Round numbers from 0 to ``high``, about so many."""
    rough = high / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough)
    for i in range(int(high / step) + 1):
        yield i * step


@dataclass
class Labels:
    """Labels on a chart of a size: each is placed where no other one is, or left out."""

    width: float
    height: float
    _taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    _parts: list[Markup] = field(default_factory=list)

    def keep_free(self, x: float, y: float, width: float, height: float | None = None) -> None:
        """Put no label on a mark, which reaches that far to both sides."""
        height = width if height is None else height
        self._taken.append((x - width, y - height, x + width, y + height))

    def add(self, x: float, y: float, distance: float, *names: str) -> None:
        """Put the first of some names that finds room beside a mark."""
        for name in names:
            half = len(name) * _LETTER / 2
            for dx, dy in ((distance + half + 3, 4), (-distance - half - 3, 4), (0, -distance - 4), (0, distance + 13)):
                box = (x + dx - half, y + dy - 10, x + dx + half, y + dy + 3)
                inside = box[0] >= 0 and box[1] >= 0 and box[2] <= self.width and box[3] <= self.height
                if inside and not any(_overlap(box, other) for other in self._taken):
                    self._taken.append(box)
                    self._parts.append(text(x + dx, y + dy, name, anchor="middle", class_="label"))
                    return

    def draw(self) -> Markup:
        """All that were placed."""
        return join(self._parts)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
