# SPDX-License-Identifier: Apache-2.0
"""How many fields an ONNX file holds, counted before it is parsed.

A message of no content takes two bytes of a file and a hundred times as many once it is parsed, so a small file could
fill the memory. Counting walks the bytes (protocol buffers' wire format) and stops at the limit; what is malformed is
left to the parser.
"""

from functools import cache
from typing import Any

from onnx import ModelProto

__all__ = ["holds_more_fields"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10
DEEPEST = 100
"""Messages within messages; the parser has the same limit."""


def holds_more_fields(data: bytes, limit: int) -> bool:
    """Whether the messages of a model file hold more than ``limit`` fields together."""
    waiting = [(ModelProto.DESCRIPTOR, 0, len(data), 0)]
    count = 0
    while waiting:
        kind, at, end, depth = waiting.pop()
        messages = _messages(kind)
        while at < end:
            count += 1
            if count > limit:
                return True
            tag, at = _varint(data, at, end)
            wire = tag & 7
            if wire == VARINT:
                _, at = _varint(data, at, end)
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
            elif wire == BYTES:
                size, at = _varint(data, at, end)
                inner = messages.get(tag >> 3)
                if inner is not None and depth < DEEPEST:
                    waiting.append((inner, at, min(at + size, end), depth + 1))
                at += size
            else:
                break
    return False


@cache
def _messages(kind: Any) -> dict[int, Any]:
    """Descriptors of the messages that a kind of message may hold, by the number of the field."""
    return {field.number: field.message_type for field in kind.fields if field.message_type is not None}


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of variable length and the place behind it, which is the end if it is cut short."""
    value = 0
    for index, byte in enumerate(data[at : min(at + LONGEST_VARINT, end)]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    return 0, end
