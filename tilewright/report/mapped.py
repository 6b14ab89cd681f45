# SPDX-License-Identifier: Apache-2.0
"""What the mapper wrote into a program about itself, read with distrust."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilewright_hdl.errors import ProgramError
from tilewright_hdl.program import Program

__all__ = ["Block", "Chosen", "Mapped", "mapped"]

_MOST = 1 << 62
"""Counts beyond this are no counts of anything."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The tiling of a layer.

    Members
    -------
    tile : str
        For people.
    cycles, first_fit_cycles : int
        Of the layer alone: with this tiling, and with the largest tiles that fit.
    """

    tile: str
    cycles: int
    first_fit_cycles: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """Words of the activation scratchpad that a tensor, or a buffer, has from one layer to another."""

    name: str
    address: int
    words: int
    first_layer: int
    last_layer: int


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """What the mapper knows and the code does not tell.

    Members
    -------
    chosen : dict of int to Chosen
        By the number of the layer.
    blocks : list of Block
        Of all runs.
    compulsory : int or None
        Bytes of an inference that no program could do without; ``None`` if the mapper did not say.
    """

    chosen: dict[int, Chosen]
    blocks: list[Block]
    compulsory: int | None


def mapped(program: Program) -> Mapped:
    """The mapper's report in a program; empty if it has none.

    Raises
    ------
    ProgramError
        If it is not made as the mapper makes it.
    """
    chosen: dict[int, Chosen] = {}
    blocks: list[Block] = []
    layers, words = len(program.layers), program.config.activation_words
    try:
        traffic = program.report.get("traffic")
        compulsory = None if traffic is None else _count(traffic, "compulsory")
        for step in program.report.get("steps", ()):
            if step["kind"] != "run":
                continue
            for layer in step["layers"]:
                chosen[_count(layer, "layer", layers - 1)] = Chosen(
                    tile=_tile(layer["tile"]), cycles=_count(layer, "cycles_alone"),
                    first_fit_cycles=_count(layer, "first_fit_cycles"),
                )
            for block in step["memory_map"]:
                address = _count(block, "address", words)
                blocks.append(Block(
                    name=str(block["name"]), address=address, words=_count(block, "words", words - address),
                    # The first layer's buffers may be wanted by the layer before it, which there is none.
                    first_layer=max(0, _count(block, "first_layer", layers - 1, least=-1)),
                    last_layer=_count(block, "last_layer", layers - 1),
                ))
    except (KeyError, TypeError, AttributeError) as error:
        raise ProgramError(f"The mapper's report in the program must be as `tilewright compile` writes it, but has no "
                           f"sound {error}; compile the model again") from error
    return Mapped(chosen=chosen, blocks=blocks, compulsory=compulsory)


def _count(data: Mapping[str, Any], name: str, most: int = _MOST, least: int = 0) -> int:
    value = data[name]
    if type(value) is not int or not least <= value <= most:
        raise ProgramError(f"{name!r} in the mapper's report must be an integer from {least} to {most}, not {value!r}; "
                           f"compile the model again")
    return value


def _tile(tile: Mapping[str, Any]) -> str:
    height, width, channels = (_count(tile, name) for name in ("height", "width", "channels"))
    # The loop over channels is the outer or the inner one.
    return f"{height}x{width}x{channels} {str(tile['order']).removeprefix('channels ')}"
