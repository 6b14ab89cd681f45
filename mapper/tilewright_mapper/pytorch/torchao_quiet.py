# SPDX-License-Identifier: Apache-2.0
"""Importing torchao without its two notes that mean nothing here.

torchao tries to load its GPU kernels and reports on the log that a machine without that GPU has none, and PyTorch
reports that torchao still registers an enumeration. Neither concerns PT2E quantization. They are dropped by their
text, so that anything else that torchao has to say is still heard.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_import"]

NOTES = {
    "torchao": ("Failed to load ", "Skipping import of cpp extensions"),
    "torch.utils._pytree": ("%s is an Enum subclass and is now natively supported",),
}
"""Logger, and the beginnings of the messages that are dropped."""


@contextmanager
def quiet_import() -> Iterator[None]:
    """Context in which torchao is imported."""
    filters = {name: _Drop(beginnings) for name, beginnings in NOTES.items()}
    for name, drop in filters.items():
        logging.getLogger(name).addFilter(drop)
    try:
        yield
    finally:
        for name, drop in filters.items():
            logging.getLogger(name).removeFilter(drop)


class _Drop(logging.Filter):
    def __init__(self, beginnings: tuple[str, ...]):
        super().__init__()
        self._beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self._beginnings)
