"""A storage in memory whose requests can be counted, and made to fail, to be slow, or never to be answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from fsspec.implementations.memory import MemoryFileSystem

URL = "faulty://bucket/videos"


class FaultyFileSystem(MemoryFileSystem):
    """Behaves like memory://, but `before` is called with the kind of each request: read, look or list."""

    protocol = "faulty"
    store: dict = {}
    pseudo_dirs = [""]
    requests: Counter = Counter()
    before: Callable[[str], None] = lambda kind: None  # noqa: E731
    ended = threading.Event()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        self._asked("read")
        return self.store[path].getbuffer()[start:end].tobytes() if path in self.store else self._missing(path)

    def info(self, path: str, **options: object) -> dict:
        self._asked("look")
        return super().info(path, **options)

    def ls(self, path: str, detail: bool = True, **options: object) -> list:
        self._asked("list")
        return super().ls(path, detail, **options)

    def _missing(self, path: str) -> bytes:
        raise FileNotFoundError(path)

    def _asked(self, kind: str) -> None:
        cls = type(self)
        cls.requests[kind] += 1
        cls.before(kind)
