# SPDX-License-Identifier: Apache-2.0
"""Tables of the report: the layers, and what runs on the host."""

from tilewright_sim.layer_cycles import STALL_CAUSES

from .chart import hue
from .figures import Figures, LayerFigures
from .markup import Markup, clean, element, kib, number, percent, whole

__all__ = ["host_section", "layer_section"]

_WORDS = ("layer", "operator", "tile")


def layer_section(figures: Figures) -> Markup:
    """All figures of all layers on the accelerator."""
    layers = [layer for layer in figures.layers if layer.layer.on != "host"]
    causes = [cause for cause in STALL_CAUSES if any(layer.stalls.get(cause) for layer in layers)]
    groups = (("", 6), ("cycles without a vector", len(causes)), ("bytes on the bus", 3), ("tiling, cycles alone", 3))
    names = ["#", "layer", "operator", "bound", "cycles", "of peak", *causes,
             "constants", "loaded", "stored", "tile", "chosen", "first fit"]
    above = element("tr", *(element("th", name, colspan=span, scope="colgroup") for name, span in groups if span),
                    class_="groups")
    head = element("tr", *(
        element("th", element("button", name, type="button"), scope="col", title=STALL_CAUSES.get(name),
                class_="word" if name in _WORDS else None) for name in names))
    body = [_row(figures, layer, causes) for layer in layers]
    return element(
        "section", element("h2", "Layers"),
        element("div", element("table", element("thead", above, head), element("tbody", *body),
                               element("tfoot", _total(figures, layers, len(causes))), class_="layers"),
                class_="scroll", tabindex=0, role="group", aria_label="Table of layers"),
        element("p", "Bound: MACs / PEs, in cycles. Every cycle of the run belongs to one layer; in those without a "
                "vector the array waits for its next weights, operands, an engine, its own draining, or code. Traffic "
                "counts whole beats. A tile is output height x width x channels, with the loop over channels as the "
                "inner or the outer one; then the cycles of the layer by itself with this tile, and with the largest "
                "that fits. A click on a title sorts.", class_="caption"))


def _row(figures: Figures, layer: LayerFigures, causes: list[str]) -> Markup:
    chosen = figures.mapped.chosen.get(layer.number)
    cells = [
        _figure(layer.number, str(layer.number)),
        element("th", element("i", class_="key layer", style=hue(layer.number)), " ", layer.name, scope="row",
                class_="word name", title=layer.name),
        element("td", clean(layer.layer.op), class_="word"),
        _figure(layer.bound, whole(layer.bound) if layer.bound else ""), _count(layer.cycles),
        _figure(layer.utilization, percent(layer.utilization) if layer.bound else "",
                style=f"--share:{min(1.0, layer.utilization):.3f}", class_="bar"),
        *(_count(layer.stalls.get(cause, 0)) for cause in causes),
        *(_figure(size, kib(size) if size else "") for size in (layer.constants, layer.loaded, layer.stored)),
        element("td", chosen.tile if chosen else "", class_="word"),
        *(_count(count) for count in ((chosen.cycles, chosen.first_fit_cycles) if chosen else (0, 0))),
    ]
    return element("tr", *cells, data_layer=layer.number)


def _count(value: float) -> Markup:
    return _figure(value, number(value) if value else "")


def _figure(value: float, shown: str, **attributes: object) -> Markup:
    return element("td", shown, data_value=f"{value:g}" if isinstance(value, float) else value, **attributes)


def _total(figures: Figures, layers: list[LayerFigures], causes: int) -> Markup:
    chosen = figures.mapped.chosen.values()
    sizes = (sum(x.constants for x in layers), sum(x.loaded for x in layers), sum(x.stored for x in layers))
    cells = ["", "all", "", whole(figures.bound), number(figures.cycles),
             percent(figures.bound / figures.cycles) if figures.cycles else "", *[""] * causes, *map(kib, sizes), "",
             number(sum(item.cycles for item in chosen)), number(sum(item.first_fit_cycles for item in chosen))]
    return element("tr", *(element("td", cell, class_="word" if i in (1, 2) else None) for i, cell in enumerate(cells)))


def host_section(figures: Figures) -> Markup:
    """What the accelerator does not do, and why."""
    host = [layer for layer in figures.layers if layer.layer.on == "host"]
    if not host:
        return element("section", element("h2", "On the host"), element("p", "Nothing: all layers run on the "
                                                                             "accelerator."))
    rows = [element("tr", element("th", layer.name, scope="row", class_="word"),
                    element("td", clean(layer.layer.op), class_="word"),
                    element("td", layer.layer.reason, class_="word")) for layer in host]
    head = element("tr", *(element("th", name, scope="col", class_="word") for name in ("layer", "operator", "why")))
    return element("section", element("h2", "On the host"),
                   element("p", "These have no cycles here; `tilewright run` measures their time."),
                   element("table", element("thead", head), element("tbody", *rows), class_="plain"))
