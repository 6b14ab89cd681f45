# SPDX-License-Identifier: Apache-2.0
"""Allocating: blocks with lifetimes in the activation scratchpad, and rings for what streams through."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BlockRequest", "Ring", "pack"]


@dataclass(frozen=True)
class BlockRequest:
    """Words that are needed for a time.

    Members
    -------
    name : str
    words : int
    first, last : int
        Layers from which and to which, inclusive.
    """

    name: str
    words: int
    first: int
    last: int

    def meets(self, other: "BlockRequest") -> bool:
        return self.first <= other.last and other.first <= self.last


def pack(
    capacity: int,
    requests: Sequence[BlockRequest],
    *,
    bank_words: int = 0,
    apart: Mapping[frozenset[str], int] | None = None,
) -> dict[str, int] | None:
    """Place blocks so that those whose lifetimes meet do not overlap.

    Parameters
    ----------
    capacity : int
        Words.
    bank_words : int
        Words of a bank; with ``apart``.
    apart : mapping of pairs of names to int
        Blocks that are better off in different banks, with the cycles at stake. Heeded where there is room.

    Returns
    -------
    dict of name to address, or None
        ``None`` if no order that was tried makes them fit.
    """
    orders = (
        lambda r: (-r.words, r.first, r.name),
        lambda r: (r.first, -r.words, r.name),
        lambda r: (-r.words * (r.last - r.first + 1), r.name),
    )
    for wishes in (apart or {}, {}):
        for key in orders:
            placed = _place(capacity, sorted(requests, key=key), bank_words, wishes)
            if placed is not None:
                return placed
    return None


def _place(
    capacity: int, requests: Sequence[BlockRequest], bank_words: int, apart: Mapping[frozenset[str], int]
) -> dict[str, int] | None:
    """First fit in the given order, the fewest cycles lost to shared banks first."""
    placed: list[tuple[BlockRequest, int]] = []
    for request in requests:
        rivals = [(other, at) for other, at in placed if other.meets(request)]
        partners = [(other, at, apart[pair]) for other, at in placed
                    if (pair := frozenset((other.name, request.name))) in apart]
        candidates = {0, *(at + other.words for other, at in rivals)}
        if partners:
            candidates |= set(range(0, capacity, bank_words))

        def cost(at: int, request: BlockRequest = request, partners: Sequence[tuple[BlockRequest, int, int]] = partners
                 ) -> tuple[int, int]:
            return sum(weight for other, start, weight in partners
                       if _share_bank(at, request.words, start, other.words, bank_words)), at

        fits = [at for at in candidates if at + request.words <= capacity
                and all(at + request.words <= start or start + other.words <= at for other, start in rivals)]
        if not fits:
            return None
        placed.append((request, min(fits, key=cost)))
    return {request.name: at for request, at in placed}


def _share_bank(a: int, a_words: int, b: int, b_words: int, bank_words: int) -> bool:
    return a // bank_words <= (b + b_words - 1) // bank_words and b // bank_words <= (a + a_words - 1) // bank_words


class Ring:
    """A memory used round and round: each new item overwrites the oldest.

    Parameters
    ----------
    capacity : int
        Words.
    first : int
        Address at which they begin.
    """

    def __init__(self, capacity: int, first: int = 0):
        self.capacity = capacity
        self._first = first
        self.clear()

    def clear(self) -> None:
        """Begin anew, with nothing there."""
        self._next = self._first
        self._items: dict[Hashable, tuple[int, int]] = {}

    def find(self, key: Hashable) -> int | None:
        """Address of an item that is still there."""
        return self._items[key][0] if key in self._items else None

    def put(self, key: Hashable, words: int) -> int:
        """Address for a new item of ``words``, at most the capacity; older items in its place are gone."""
        if words > self.capacity:
            raise ValueError(f"An item must have at most {self.capacity} words, not {words}")
        start = self._next if self._next + words <= self._first + self.capacity else self._first
        self._items = {k: (at, n) for k, (at, n) in self._items.items() if at >= start + words or start >= at + n}
        self._items[key] = (start, words)
        self._next = start + words
        return start

    @property
    def items(self) -> dict[Hashable, tuple[int, int]]:
        """What is there: ``(address, words)``."""
        return dict(self._items)
