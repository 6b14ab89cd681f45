# SPDX-License-Identifier: Apache-2.0
"""A profile in the trace event format of Chrome and Perfetto, one track for each engine.

The format is a list of JSON objects: metadata events (``"ph": "M"``) name the tracks, complete events (``"ph": "X"``)
are slices with a begin ``ts`` and a duration ``dur`` in microseconds. One microsecond stands for one cycle.

Slices of a track must not overlap, but instructions in an engine's pipeline do. So a slice begins where the one
before it ends, if its instruction started earlier; the true cycles stand in its arguments. A wait for a semaphore is a
slice of its own, as far as the engine had nothing else to do.
"""

from collections.abc import Sequence
from typing import Any

from tilewright_hdl.isa import ENGINES

from .machine import ProfileRecord

__all__ = ["trace_events"]

_PROCESS = 0
WAITING = "(waits)"
"""Name of a slice in which an engine waits for a semaphore."""


def trace_events(records: Sequence[ProfileRecord], names: Sequence[str], *, offset: int = 0) -> list[dict[str, Any]]:
    """Events of a run, plain data for ``json.dumps({"traceEvents": ...})``.

    Parameters
    ----------
    records : sequence of ProfileRecord
        In any order.
    names : sequence of str
        What each instruction is shown as, by its index.
    offset : int
        Cycle of the trace in which the run begins.
    """
    if offset < 0:
        raise ValueError(f"offset must not be negative, was {offset!r}")
    events: list[dict[str, Any]] = [_metadata("process_name", "tilewright (1 us = 1 cycle)")]
    for engine in ENGINES:
        events.append(_metadata("thread_name", engine.name, thread=int(engine)))
        events.append(_metadata("thread_sort_index", int(engine), thread=int(engine)))
        shown = 0
        for record in sorted((r for r in records if r.engine == engine), key=lambda r: (r.start, r.index)):
            if record.start > max(shown, record.issue):
                begin = max(shown, record.issue)
                events.append(_slice(WAITING, engine.name, int(engine), offset + begin, record.start - begin,
                                     {"index": record.index}))
            begin = max(shown, record.start)
            arguments = {name: getattr(record, name) for name in ("index", "issue", "start", "end", "stall", "wait")}
            events.append(_slice(names[record.index], engine.name, int(engine), offset + begin,
                                 max(0, record.end - begin), arguments))
            shown = max(shown, record.end)
    return events


def _metadata(name: str, value: str | int, *, thread: int = 0) -> dict[str, Any]:
    key = "sort_index" if name.endswith("sort_index") else "name"
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": thread, "args": {key: value}}


def _slice(
    name: str, category: str, thread: int, begin: int, duration: int, arguments: dict[str, int]
) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": category, "pid": _PROCESS, "tid": thread, "ts": begin, "dur": duration,
            "args": arguments}
