# SPDX-License-Identifier: Apache-2.0
"""HTML and SVG that escape whatever is not markup already, and how the page writes names and figures.

A program file may come from a stranger, and its names go into the page. So text becomes markup in one place only.
"""

import html
import math
from collections.abc import Iterable

__all__ = ["Markup", "clean", "element", "join", "kib", "number", "percent", "shape", "short", "whole"]

_VOID = {"col", "meta"}
_LONGEST_NAME = 80


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """An element. Children that are no :class:`Markup` are escaped, and so are all values of attributes.

    In the names of attributes, an underscore at the end is dropped and others stand for a hyphen; an attribute whose
    value is ``None`` is left out.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items() if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{pairs}>")
    return Markup(f"<{name}{pairs}>{join(children)}</{name}>")


def shape(name: str, /, **attributes: object) -> Markup:
    """An element of SVG in which coordinates are cut to tenths."""
    return element(name, **{k: f"{v:.1f}" if isinstance(v, float) else v for k, v in attributes.items()})


def join(parts: Iterable[str]) -> Markup:
    """Parts one after the other; those that are no :class:`Markup` are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def clean(name: str) -> str:
    """A name out of a file, short enough to show, without characters that are invisible or turn text around."""
    return short("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[: 2 * _LONGEST_NAME]),
                 _LONGEST_NAME)


def short(text: str, most: int) -> str:
    """Text of at most so many characters; what is longer loses its middle."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def number(value: float) -> str:
    """A count, in groups of three digits."""
    return f"{value:,.0f}"


def whole(value: float) -> str:
    """A number of cycles that nothing can be faster than."""
    return number(math.ceil(value))


def percent(share: float) -> str:
    """A share of one."""
    return f"{share:.1%}"


def kib(count: int) -> str:
    """Bytes as people read them."""
    if count < 1 << 10:
        return f"{count} B"
    if count < 1 << 20:
        return f"{count / (1 << 10):,.1f} KiB".replace(".0 KiB", " KiB")
    return f"{count / (1 << 20):,.1f} MiB".replace(".0 MiB", " MiB")
