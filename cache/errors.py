"""Errors of the cache. Each is also the builtin that a caller would expect to catch."""

__all__ = [
    "CacheError",
    "DamagedPayload",
    "InvalidName",
    "InvalidRecord",
    "NonFiniteFeatures",
    "NotCached",
    "ShapeMismatch",
    "WriteFailed",
]


class CacheError(Exception):
    """Base class: which namespace and video, what was expected and what was got."""


class NotCached(CacheError, KeyError):
    """A video or namespace that holds no commit record."""

    def __str__(self) -> str:  # KeyError would quote it
        return str(self.args[0]) if self.args else ""


class DamagedPayload(CacheError, OSError):
    """Stored data that is missing or differs from what was written."""


class InvalidRecord(CacheError, ValueError):
    """A commit record that cannot be understood, or is of a newer version."""


class InvalidName(CacheError, ValueError):
    """A namespace or video id that cannot be stored."""


class NonFiniteFeatures(CacheError, ValueError):
    """Features that are NaN or infinite, also after conversion to the stored type."""


class ShapeMismatch(CacheError, ValueError):
    """Arrays whose shapes do not belong together."""


class WriteFailed(CacheError, OSError):
    """Features that could not be written: a full or read-only disk, or a store that refuses."""
