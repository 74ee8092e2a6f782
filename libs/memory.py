"""What a process remembers, up to a size."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Values by key. Above its size it forgets those that were asked for longest ago."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._held_bytes = 0

    def get(self, key: K) -> V | None:
        """The value of a key, if it is still there."""
        held = self._held.get(key)
        if held is None:
            return None
        self._held.move_to_end(key)
        return held[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Remember a value; `size_bytes` is about what it takes."""
        self.drop(key)
        self._held[key] = (value, size_bytes)
        self._held_bytes += size_bytes
        while self._held_bytes > self._size_bytes:
            self.drop(next(iter(self._held)))

    def drop(self, key: K) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._held_bytes -= held[1]

    def clear(self) -> None:
        self._held.clear()
        self._held_bytes = 0
