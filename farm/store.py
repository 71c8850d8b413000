"""The UV feature store: the book of which keyframe features exist, how large they are, and who still needs them.

The bytes do not pass through it. Features get room before they are made, first come, first served, and give it back when the
last reader is done: what is alive never takes more than a given share of memory, so that nothing spills.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, int]
"""(render, number of the keyframe pass)."""


@dataclass
class Entry:
    """bytes: foreseen, then counted. waiting: the readers that are not done. made: do the features exist?"""

    bytes: int
    waiting: set[int] = field(default_factory=set)
    made: bool = False


class FeatureStore:
    """Plain Python, wrapped into an actor by the farm. capacity: bytes that live features may take, over all renders.

    >>> store = FeatureStore(100)
    >>> store.reserve(("a", 0), 80, readers=1), store.reserve(("b", 0), 30, readers=1)
    (True, False)
    >>> store.release(("a", 0), [0])
    [('b', 0)]
    """

    def __init__(self, capacity: float):
        self.capacity = capacity
        self.entries: dict[Key, Entry] = {}
        self.queue: dict[Key, Entry] = {}
        self.peak = 0

    def limit(self, capacity: float) -> None:
        """No more than this from now on."""
        self.capacity = min(self.capacity, capacity)

    def room(self) -> float:
        """Bytes that the features of one pass may take at most."""
        return self.capacity

    def reserve(self, key: Key, size: int, readers: int) -> bool:
        """Room for features that readers 0..readers-1 will each use once. False: not yet, `release` or `drop` will name them."""
        if key not in self.entries:
            self.queue.setdefault(key, Entry(size, set(range(readers))))
            self._admit()
        return key in self.entries

    def publish(self, key: Key, size: int) -> None:
        """The features exist now, and take this many bytes."""
        if key in self.entries:
            self.entries[key].made, self.entries[key].bytes = True, size
            self.peak = max(self.peak, self.bytes())

    def release(self, key: Key, readers: Sequence[int]) -> list[Key]:
        """Readers have their results; saying so twice does no harm. The last one frees the features. Returns who has room now."""
        entry = self.entries.get(key)
        if entry is None:
            return []
        entry.waiting.difference_update(readers)
        return [] if entry.waiting else self.drop(key)

    def drop(self, key: Key) -> list[Key]:
        """Nobody needs these features any more. Returns who has room now."""
        self.entries.pop(key, None)
        self.queue.pop(key, None)
        return self._admit()

    def _admit(self) -> list[Key]:
        """Those at the head of the queue for whom there is room. Features too large for all of it are never left waiting."""
        admitted = []
        for key, entry in list(self.queue.items()):
            if self.entries and self.bytes() + entry.bytes > self.capacity:
                break
            self.entries[key] = self.queue.pop(key)
            self.peak = max(self.peak, self.bytes())
            admitted.append(key)
        return admitted

    def bytes(self) -> int:
        """Bytes that features take now, over all renders."""
        return sum(entry.bytes for entry in self.entries.values())

    def book(self) -> dict[str, Any]:
        """What exists: {"bytes", "peak", "capacity", "entries": [{"render", "pass", "bytes", "made", "waiting"}], "queue"}."""
        entries = [
            {"render": key[0], "pass": key[1], **vars(entry), "waiting": sorted(entry.waiting)}
            for key, entry in self.entries.items()
        ]
        head = {"bytes": self.bytes(), "peak": self.peak, "capacity": self.capacity}
        return {**head, "entries": entries, "queue": list(self.queue)}
