"""The UV feature store: the book of which keyframe features exist, where, how large, and who still needs them.

The bytes do not pass through it. It holds references to objects that lie in the nodes' shared memory, and drops them when
the last reader is done.
"""

from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, int]
"""(render, number of the keyframe pass)."""


@dataclass
class Entry:
    """reference: a list around the features' object reference, as Ray resolves bare ones. bytes: their size."""

    reference: list[Any]
    bytes: int
    waiting: set[int] = field(default_factory=set)


class FeatureStore:
    """Plain Python, wrapped into an actor by the farm."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.peak = 0

    def publish(self, key: Key, reference: list[Any], size: int, readers: int) -> None:
        """Features exist now, and readers 0..readers-1 will each use them once.

        Features that were lost and made again are still for those only who had not used them.
        """
        lost = self.entries.get(key)
        self.entries[key] = Entry(reference, size, lost.waiting if lost else set(range(readers)))
        self.peak = max(self.peak, self.bytes())

    def find(self, key: Key) -> list[Any] | None:
        """Where the features are, or None if they are gone or never were."""
        entry = self.entries.get(key)
        return entry.reference if entry else None

    def release(self, key: Key, reader: int) -> None:
        """A reader has its result. Saying so twice does no harm; the last one frees the features."""
        entry = self.entries.get(key)
        if entry is None:
            return
        entry.waiting.discard(reader)
        if not entry.waiting:
            del self.entries[key]

    def bytes(self) -> int:
        """Bytes that live features take now, over all renders."""
        return sum(entry.bytes for entry in self.entries.values())

    def book(self) -> dict[str, Any]:
        """What exists: {"bytes", "peak", "entries": [{"render", "pass", "bytes", "waiting"}]}."""
        entries = [
            {"render": render, "pass": number, "bytes": entry.bytes, "waiting": sorted(entry.waiting)}
            for (render, number), entry in self.entries.items()
        ]
        return {"bytes": self.bytes(), "peak": self.peak, "entries": entries}
