# SPDX-License-Identifier: Apache-2.0
"""Maps of the scratchpads: addresses over layers."""

from collections.abc import Iterable
from typing import NamedTuple

from .chart import Scale, figure, layer_mark, text, ticks
from .figures import Figures
from .markup import Markup, clean, kib, percent, shape, short
from .transfers import Spans

__all__ = ["activation_map", "weight_map"]

_WIDTH, _HEIGHT = 620, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 10, 10, 40
_LETTER = 6.3
_LINE = 13


class _Area(NamedTuple):
    """Words ``start`` up to ``end``, in the layers from ``first`` to ``last``, in the colour of ``layer``."""

    first: int
    last: int
    start: int
    end: int
    layer: int
    name: str


def activation_map(figures: Figures) -> Markup:
    """What lies where in the activation scratchpad, while which layers run."""
    areas = [_Area(b.first_layer, b.last_layer, b.address, b.address + b.words, b.last_layer, clean(b.name))
             for b in figures.mapped.blocks]
    config = figures.config
    most = max((sum(a.end - a.start for a in areas if a.first <= n <= a.last) for n in range(len(figures.layers))),
               default=0)
    caption = (f"At most {percent(most / config.activation_words)} of {kib(config.memory.activation_bytes)} are taken "
               f"at once, in {config.memory.activation_banks} banks. Each block is a tensor, or a buffer of one that "
               f"streams, for as long as it stays; its colour is that of the last layer that uses it.")
    if not areas:
        caption = "The program has no map of it."
    return _map(figures, "Activation scratchpad", caption, config.activation_words, config.array.rows, areas)


def weight_map(figures: Figures) -> Markup:
    """Which words of the weight scratchpad each layer reads."""
    areas = [
        _Area(layer.number, layer.number, start, end, layer.number, layer.name)
        for layer in figures.layers for start, end in Spans((u.start, u.end) for u in layer.weights)
    ]
    config = figures.config
    share = Spans((a.start, a.end) for a in areas).size / config.weight_words
    size = len(figures.program.constants)
    caption = (f"Words from which each layer's EXECs take their weights: together {percent(share)} of "
               f"{kib(config.memory.weight_bytes)}. All constants of the program take {kib(size)} in main memory, of "
               f"which {kib(figures.resident)} stay on chip between inferences.")
    return _map(figures, "Weight scratchpad", caption, config.weight_words, config.array.columns, areas)


def _map(
    figures: Figures, title: str, caption: str, words: int, word_bytes: int, areas: Iterable[_Area]
) -> Markup:
    count = max(len(figures.layers), 1)
    x = Scale(0, count, _LEFT, _WIDTH - _RIGHT)
    y = Scale(0, words, _HEIGHT - _BOTTOM, _TOP)
    parts = [shape("rect", x=x.first, y=y.last, width=x.last - x.first, height=y.first - y.last, class_="frame")]
    for quarter in range(5):
        at = words * quarter // 4
        parts += [shape("line", x1=x.first, x2=x.last, y1=y(at), y2=y(at), class_="grid"),
                  text(x.first - 6, y(at) + 4, kib(at * word_bytes), anchor="end")]
    for value in ticks(count, 12):
        if value == int(value) and value < count:
            parts.append(text(x(value + 0.5), y.first + 15, f"{value:.0f}", anchor="middle"))
    for area in areas:
        left, right, top, bottom = x(area.first), x(area.last + 1), y(area.end), y(area.start)
        tip = (f"{area.name}\nlayers {area.first} to {area.last}\n"
               f"words {area.start:,} to {area.end - 1:,} ({kib((area.end - area.start) * word_bytes)})")
        parts.append(layer_mark("rect", figures.layers[area.layer], tip, x=left + 0.5, y=top, rx=2,
                                width=max(0.5, right - left - 1), height=max(0.7, bottom - top - 0.7)))
        letters = int((right - left - 6) / _LETTER)
        if letters >= 5 and bottom - top >= _LINE:
            parts.append(text((left + right) / 2, (top + bottom) / 2 + 4, short(area.name, letters), anchor="middle",
                              class_="inside"))
    parts.append(text((x.first + x.last) / 2, _HEIGHT - 8, "layer", anchor="middle"))
    return figure(title, caption, _WIDTH, _HEIGHT, parts)
