# SPDX-License-Identifier: Apache-2.0
"""The record of the benchmarks: cycles that no change may exceed unnoticed, and the page of documentation made of it.

The record is what ``tilewright bench --json`` prints, kept in ``benchmarks/cycles.json``. A network that has become
slower fails the tests until that is mended, or the record updated on purpose by ``tilewright bench --update``. One that
has become faster does not: the tests warn that the record is stale. Both belong to the repository, not to what is
installed.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import TilewrightError

from .bench_tables import fill
from .networks import NETWORKS
from .output import write_files

__all__ = ["CONFIG", "PAGE", "RECORD", "TARGETS", "UPDATE", "read_record", "target_cycles", "update"]

CONFIG = "edge16"
"""Accelerator of the record, with the memory that ``tilewright.open`` has by default."""

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "cycles.json"
PAGE = ROOT / "docs" / "performance.md"
UPDATE = "tilewright bench --update"

TARGETS = {"resnet8": 54_000, "dscnn": 21_000, "mobilenet": 66_000, "autoencoder": None, "resnet18": 7_450_000}
"""Cycles that each network must reach; ``None``: :data:`TRAFFIC_PERCENT` says how many."""

TRAFFIC_PERCENT = 115
"""A network of linear layers, which use each weight once, may take so much of the beats of its weights."""


def target_cycles(name: str) -> int:
    """Cycles that a network must reach."""
    fixed, config = TARGETS[name], PRESETS[CONFIG]
    if fixed is not None:
        return fixed
    # A byte for each MAC; so these are more than MACs / PEs, wherever a beat has fewer bytes than the array elements.
    return TRAFFIC_PERCENT * -(-NETWORKS[name].macs // config.bus.data_bytes) // 100


def read_record() -> dict[str, dict[str, Any]]:
    """Results by network.

    Raises
    ------
    TilewrightError
        Outside of a checkout of the repository.
    """
    if not RECORD.is_file():
        raise TilewrightError(f"The record of the benchmarks is part of the repository: {UPDATE} must run in a "
                              f"checkout of it, installed with pip install -e, but there is no {RECORD}")
    return {result["network"]: result for result in json.loads(RECORD.read_text())}


def update(results: Iterable[Mapping[str, Any]]) -> tuple[Path, Path]:
    """Make results the new ones of their networks, and rewrite the tables of the page; gives the files written.

    Raises
    ------
    TilewrightError
        Outside of a checkout, or if a file cannot be written.
    """
    known = read_record() | {result["network"]: dict(result) for result in results}
    record = [known[name] for name in TARGETS if name in known]
    page = fill(PAGE.read_text(encoding="utf-8"), record, {name: target_cycles(name) for name in known})
    write_files({RECORD: _dump(record).encode(), PAGE: page.encode()})
    return RECORD, PAGE


def _dump(record: list[dict[str, Any]]) -> str:
    """JSON with a line for each layer, so that a change shows where it is."""
    entries = []
    for result in record:
        layers = ",\n  ".join(json.dumps(layer) for layer in result["layers"])
        head = json.dumps({name: value for name, value in result.items() if name != "layers"})
        entries.append(f'{head[:-1]}, "layers": [\n  {layers}\n]}}')
    return f"[{', '.join(entries)}]\n"
