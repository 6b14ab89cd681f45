# SPDX-License-Identifier: Apache-2.0
"""The page of a report, put together from its sections and three files beside this one."""

import hashlib
from base64 import b64encode
from importlib.resources import files
from string import Template

from tilewright_hdl.program import Program

from .advice import LEAST_SHARE, advice
from .charts import breakdown, roofline, utilization
from .figures import Figures, figures_of
from .maps import activation_map, weight_map
from .markup import Markup, clean, element, join, kib, number, percent, whole
from .table import host_section, layer_section
from .timeline import timeline

__all__ = ["report_page"]


def report_page(program: Program) -> str:
    """A page of HTML about a program, with all that it needs in it.

    Raises
    ------
    ProgramError
        If the program is not safe to run, or the mapper's report in it is not as the mapper writes it.
    """
    figures = figures_of(program)
    style, script = _file("style.css"), _file("script.js")
    # The only script that a browser runs is ours, whatever the program's names contain.
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_file("page.html")).substitute(
        digest=digest, style=style, script=script, title=join([clean(program.name)]),
        configuration=join([clean(program.config.name)]), headline=_headline(figures), advice=_advice(figures),
        breakdown=breakdown(figures), roofline=roofline(figures), utilization=utilization(figures),
        timeline=timeline(figures), activation_map=activation_map(figures), weight_map=weight_map(figures),
        layers=layer_section(figures), host=host_section(figures),
    )


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _headline(figures: Figures) -> Markup:
    program, config = figures.program, figures.config
    cycles = figures.cycles
    alone, first_fit = _search(figures)
    compulsory = figures.mapped.compulsory
    won = f"{percent(1 - alone / first_fit)}" if first_fit else "none"
    tiles = [
        ("cycles of one inference", number(cycles), f"bound: {whole(figures.bound)} = MACs / {config.array.pes} PEs"),
        ("of the array's peak", percent(figures.bound / cycles if cycles else 0), f"{number(program.macs)} MACs"),
        ("main memory traffic", kib(figures.traffic),
         "" if compulsory is None else f"compulsory: {kib(compulsory)}"),
        ("constants that stay on chip", kib(figures.resident), f"of {kib(len(program.constants))}"),
        ("won by the tile search", won, f"{number(first_fit)} to {number(alone)} cycles, layer by layer"),
    ]
    return join(
        element("div", element("strong", value), element("span", name), element("small", note), class_="tile")
        for name, value, note in tiles)


def _search(figures: Figures) -> tuple[int, int]:
    """Cycles of all layers, each alone: as chosen, and with the largest tiles that fit."""
    chosen = figures.mapped.chosen.values()
    return sum(item.cycles for item in chosen), sum(item.first_fit_cycles for item in chosen)


def _advice(figures: Figures) -> Markup:
    found = advice(figures)
    if not found:
        return element("p", f"Nothing stands out: no single cause costs {LEAST_SHARE:.1%} of the cycles.")
    return element("ol", *(
        element("li", element("b", f"{number(item.cycles)} cycles"),
                element("span", f" ({percent(item.cycles / figures.cycles)}) ", class_="share"),
                item.finding, " ", element("em", item.change))
        for item in found
    ), class_="advice")
