"""What results need of an object store, beyond what the cache needs: puts under a condition, and whole files.

A put under a condition is what locks in a store are made of. S3 has them, and so have the servers that speak its
protocol; for other stores, and for a server that ignores the condition, `conditional` is false.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from cache.errors import CacheError
from cache.limits import LISTING
from cache.objects import Objects, reading, writing
from pipeline.errors import OutputError
from pipeline.hashing import file_sha256

__all__ = ["Bucket", "bucket_at"]

REFUSED = ("PreconditionFailed", "ConditionalRequestConflict")
UNKNOWN = ("NotImplemented", "MethodNotAllowed")
SLOWEST_BYTES_PER_S = 1 << 20
"""A file may take the time of one object, and as much longer as it takes at this speed."""
TRIES = 5


class Bucket(Objects):
    """Objects below a URL, with puts under a condition and files that are put and fetched whole.

    Its errors are those of the cache: ReadFailed and WriteFailed, which name the object.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._s3 = hasattr(self._fs, "call_s3")
        self._conditions: bool | None = None if self._s3 else False

    def conditional(self) -> bool:
        """Whether the store refuses a put whose condition does not hold; S3 stores are tried once, with an object."""
        if self._conditions is None:
            name = f".locks/trial-{uuid.uuid4().hex}"
            try:
                self.create(name, b"trial")
                self._conditions = self.create(name, b"trial") is None
                self.discard(name)
            except CacheError as error:
                if _code(error) not in UNKNOWN:
                    raise
                self._conditions = False
        return self._conditions

    def create(self, name: str, data: bytes) -> str | None:
        """Put an object that is not there. Returns its tag, or None if it is there. Raises WriteFailed."""
        return self._put(name, data, IfNoneMatch="*")

    def replace(self, name: str, data: bytes, tag: str) -> str | None:
        """Put an object that has this tag. Returns the new tag, or None if it has another or is gone.

        Raises WriteFailed.
        """
        return self._put(name, data, IfMatch=tag)

    def remove_tagged(self, name: str, tag: str) -> None:
        """Remove an object if it still has this tag. Raises WriteFailed."""
        self._call("delete_object", name, IfMatch=tag)

    def read_tagged(self, name: str) -> tuple[bytes, str] | None:
        """Content and tag of an object, read at once; None if it is not there. Raises ReadFailed."""

        async def get() -> tuple[bytes, str]:
            answer = await self._fs._call_s3("get_object", **self._place(name))
            async with answer["Body"] as body:
                return await body.read(), answer["ETag"]

        try:
            with reading(self.path(name)):
                return self._ask(lambda: sync(self._fs.loop, get))
        except FileNotFoundError:
            return None

    def read_or_none(self, name: str) -> bytes | None:
        """An object's content; None if it is not there. Raises ReadFailed."""
        if self._s3:  # one request; fsspec makes three for an object that is not there
            found = self.read_tagged(name)
            return found[0] if found else None
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """Whether there is such an object. Raises CacheError."""
        return self._call("head_object", name) is not None if self._s3 else self.exists(name)

    def discard(self, name: str) -> None:
        """Remove an object, if it is there. Raises WriteFailed."""
        if self._s3:
            self._call("delete_object", name)
        else:
            self.remove(name)

    def versions(self, folder: str) -> dict[str, str]:
        """All objects below a folder: by their path relative to it, what changes when one is replaced."""
        if self._s3:
            return self._s3_versions(folder)
        base = self.path(folder).strip("/") + "/"
        with reading(self.path(folder)):
            found = self._ask(lambda: self._fs.find(self.path(folder), detail=True), LISTING)
        return {
            name.split(base, 1)[-1]: str((info["size"], info.get("created"), info.get("mtime")))
            for name, info in found.items()
        }

    def _s3_versions(self, folder: str) -> dict[str, str]:
        place = self._place(f"{folder}/")
        versions: dict[str, str] = {}
        page: dict[str, str] = {}
        while True:
            with reading(self.path(folder)):
                answer = self._ask(
                    lambda page=page: self._fs.call_s3(  # type: ignore[misc]  # the page of now
                        "list_objects_v2", Bucket=place["Bucket"], Prefix=place["Key"], **page
                    )
                )
            versions |= {item["Key"].removeprefix(place["Key"]): item["ETag"] for item in answer.get("Contents", ())}
            if not answer.get("IsTruncated"):
                return versions
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def upload(self, source: Path, name: str, fence: Callable[[], None]) -> None:
        """Put a file; one that lies there and differs is replaced.

        A process that was overtaken cannot replace what the next one put: it asks whether it still may after it has
        seen what lies there, and then removes that and nothing else.

        Args:
            source: a file of this machine.
            name: the object.
            fence: called before a file is replaced; raises an error when this process may not go on.

        Raises:
            WriteFailed: the store does not take it, or does not answer in time.
        """
        if not self.conditional():
            self._put_file(source, name)
            return
        sha256 = file_sha256(source)
        for _ in range(TRIES):
            try:
                self._put_file(source, name, mode="create", Metadata={"sha256": sha256})
                return
            except CacheError as error:
                if _code(error) not in REFUSED:
                    raise
            found = self._call("head_object", name)
            if found is None:
                continue
            if found["Metadata"].get("sha256") == sha256 and found["ContentLength"] == source.stat().st_size:
                return
            fence()
            self.remove_tagged(name, found["ETag"])
        raise self._contended(name)

    def settle(self, name: str, data: bytes, fence: Callable[[], None]) -> None:
        """Put an object; one that lies there and differs is replaced, as `upload` does it."""
        if not self.conditional():
            self.put(name, data)
            return
        for _ in range(TRIES):
            if self.create(name, data):
                return
            found = self.read_tagged(name)
            if found and found[0] == data:
                return
            fence()
            if found and self.replace(name, data, found[1]):
                return
        raise self._contended(name)

    def download(self, name: str, target: Path, size: int, sha256: str) -> None:
        """Fetch a file of known size and content.

        Raises FileNotFoundError, ReadFailed, or OutputError if the content is another.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            with reading(self.path(name)):
                self._ask(lambda: self._fs.get_file(self.path(name), str(partial)), self._times(size))
            if (got := file_sha256(partial)) != sha256:
                raise OutputError(f"{self.path(name)}: expected the content with SHA-256 {sha256}, got {got}")
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """Put an object, whatever lies there. Raises WriteFailed."""
        with writing(self.path(name)):
            self._ask(lambda: self._fs.pipe_file(self.path(name), data))

    def _contended(self, name: str) -> OutputError:
        return OutputError(f"{self.path(name)}: another process keeps putting this object; is it one without locks?")

    def _put_file(self, source: Path, name: str, **options: Any) -> None:
        times = self._times(source.stat().st_size)
        with writing(self.path(name)):
            self._ask(lambda: self._fs.put_file(str(source), self.path(name), **options), times)

    def _times(self, size: int) -> int:
        """How many times the limit of one object a file of so many bytes may take."""
        return 1 + math.ceil(size / SLOWEST_BYTES_PER_S / self._limit_s)

    def _put(self, name: str, data: bytes, **condition: str) -> str | None:
        answer = self._call("put_object", name, Body=data, **condition)
        return str(answer["ETag"]) if answer else None

    def _call(self, method: str, name: str, **options: Any) -> dict[str, Any] | None:
        """An answer of S3; None if a condition did not hold, or the object is not there. Raises WriteFailed."""
        try:
            with writing(self.path(name)):
                answer: dict[str, Any] = self._ask(lambda: self._fs.call_s3(method, **self._place(name), **options))
                return answer
        except CacheError as error:
            if _code(error) in (*REFUSED, "NoSuchKey", "404"):
                return None
            raise

    def _place(self, name: str) -> dict[str, str]:
        bucket, key, _ = self._fs.split_path(self.path(name))
        return {"Bucket": bucket, "Key": key}


@lru_cache(maxsize=8)
def _bucket(url: str, process: int) -> Bucket:
    return Bucket(url)


def bucket_at(url: str) -> Bucket:
    """The bucket at a URL, one in each process: connections do not survive a fork."""
    return _bucket(url, os.getpid())


def _code(error: BaseException | None) -> str:
    """The code with which S3 answered, of an error or one of its causes; empty for another error."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
