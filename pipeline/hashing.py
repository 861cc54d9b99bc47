"""Hashes of files."""

from __future__ import annotations

import hashlib

from pipeline.remote import AnyPath, RemoteFile

__all__ = ["file_sha256"]


def file_sha256(path: AnyPath) -> str:
    """SHA-256 of a file's content, read in blocks; 64 hex digits.

    Raises OSError when it cannot be read, StorageError when its storage fails.
    """
    with path.open("rb") as stream:
        if isinstance(stream, RemoteFile):
            return stream.sha256()
        return hashlib.file_digest(stream, "sha256").hexdigest()
