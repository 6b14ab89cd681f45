# SPDX-License-Identifier: Apache-2.0
"""LOADs that pack a rectangle of an image, and their cycles."""

from collections.abc import Iterator

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import Load, Segment

from .layout import Rect, Region
from .packing import Packing, Slot
from .schedule import window_cycles

__all__ = ["packing_cycles", "window_loads"]


def packing_cycles(config: AcceleratorConfig, packing: Packing, height: int, width: int) -> int:
    """Cycles of the LOADs of a rectangle, roughly: as if none of its rows lay outside of the image."""
    pixels = min(packing.width, (width - 1) * packing.column_step + packing.kernel[1])
    slots = sum(1 for _ in packing.slots(config))
    return slots * window_cycles(config, height, width, pixels * packing.channels)


def window_loads(
    config: AcceleratorConfig, packing: Packing, dram_address: int, region: Region, rect: Rect
) -> Iterator[Load]:
    """LOADs that bring packed pixels, all their words, of an image at ``dram_address`` into a region.

    Rows outside of the image are filled. Lanes that no window reaches keep what they hold.
    """
    end = rect.y + rect.height
    for slot in packing.slots(config):
        first, step = packing.first_row + slot.row * packing.dilation, packing.row_step
        low = min(max(rect.y, -(first // step)), end)
        high = min(max(low, -((first - packing.height) // step)), end)
        columns = _columns(config, packing, slot, rect)
        for y, last, inside in ((rect.y, low, False), (low, high, True), (high, end, False)):
            rows = last - y
            if not rows:
                continue
            # Windows behind the end of a row of one byte are padding.
            at, fields = dram_address, {"row_bytes": 1, "row_start": 1}
            if inside and columns is not None:
                skip, fields = columns
                at += (first + y * step) * packing.row_pitch(config) + skip
                fields["dram_stride"] = step * packing.row_pitch(config) if rows > 1 else 0
            yield Load(window=1, segment=Segment.ARENA, dram_address=at, address=region.word(y, rect.x, slot.word),
                       words=rect.width, step=region.pitch_x, rows=rows, stride=region.pitch_y if rows > 1 else 0,
                       first_lane=slot.lane, lanes=slot.lanes, pad_value=packing.pad_value, **fields)


def _columns(
    config: AcceleratorConfig, packing: Packing, slot: Slot, rect: Rect
) -> tuple[int, dict[str, int]] | None:
    """Bytes of a row of the image before the first beat that its windows read, and LOAD's fields for what follows.

    ``None`` if all of it is padding.
    """
    step, beat = packing.column_step * packing.channels, config.bus.data_bytes
    first = (packing.first_column + rect.x * packing.column_step) * packing.channels + slot.byte
    end = min(first + (rect.width - 1) * step + slot.lanes, packing.width * packing.channels)
    if end <= max(first, 0):
        return None
    skip = max(first, 0) // beat * beat
    return skip, {"row_bytes": end - skip, "row_start": first - slot.lane - skip, "row_step": step}
