"""Stores of zarr for the cache: errors that are not taken for damaged data, and no question asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, WrapperStore

from cache.limits import answered, limit_s

__all__ = ["KnownStore", "RemoteStore", "as_os_errors"]

DOCUMENT = "zarr.json"


class RemoteStore(WrapperStore[FsspecStore]):
    """Turns every error of a file system into OSError, so that it is not taken for damaged data."""

    async def get(self, key: str, *arguments: Any, **options: Any) -> Buffer | None:
        with as_os_errors():
            return await answered(limit_s(), self._store.get(key, *arguments, **options))

    async def set(self, key: str, value: Buffer) -> None:
        with as_os_errors():
            await answered(limit_s(), self._store.set(key, value))


class KnownStore(WrapperStore[Store]):
    """Answers what is known of the store without asking it: zarr asks for each document several times.

    Args:
        store: the store.
        documents: metadata that it holds; what is written later is added.
        fresh: whether it was empty at first, so that it holds nothing but what was written.

    Attributes:
        documents: path -> content of the metadata documents.
    """

    def __init__(self, store: Store, documents: dict[str, bytes], *, fresh: bool = False) -> None:
        super().__init__(store)
        self.documents, self._fresh = documents, fresh

    def _with_store(self, store: Store) -> KnownStore:
        return KnownStore(store, self.documents, fresh=self._fresh)

    async def exists(self, key: str) -> bool:
        if key in self.documents:
            return True
        return False if self._fresh and key.endswith(DOCUMENT) else await super().exists(key)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if key in self.documents and byte_range is None:
            return prototype.buffer.from_bytes(self.documents[key])
        if self._fresh and key.endswith(DOCUMENT):
            return None
        return await super().get(key, prototype, byte_range)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)

    async def set(self, key: str, value: Buffer) -> None:
        await super().set(key, value)
        if key.endswith(DOCUMENT):
            self.documents[key] = value.to_bytes()


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Turns every error into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
