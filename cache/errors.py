"""Errors of the cache. Each is also a builtin error that a caller would expect to catch."""

__all__ = [
    "CacheError",
    "DamagedPayload",
    "InvalidFrames",
    "InvalidImport",
    "InvalidName",
    "InvalidRecord",
    "InvalidSetting",
    "MissingExtra",
    "NonFiniteFeatures",
    "NotCached",
    "ReadFailed",
    "ShapeMismatch",
    "UnsupportedRecord",
    "WriteFailed",
]


class CacheError(Exception):
    """Base class. Messages name the namespace and video, what was expected and what was found."""


class NotCached(CacheError, KeyError):
    """A video or namespace that holds no commit record."""

    def __str__(self) -> str:  # KeyError would quote it
        return str(self.args[0]) if self.args else ""


class DamagedPayload(CacheError, OSError):
    """Stored data that is missing or differs from what was written."""


class ReadFailed(CacheError, OSError):
    """Stored data that could not be read, for a reason such as a permission, disk or network; it may be intact."""


class InvalidRecord(CacheError, ValueError):
    """A commit record that is not what was written."""


class UnsupportedRecord(CacheError, ValueError):
    """An intact commit record of a version of this library that is newer, or too old to be read."""


class InvalidName(CacheError, ValueError):
    """A namespace or video id that cannot be stored."""


class NonFiniteFeatures(CacheError, ValueError):
    """Features that are NaN or infinite, also after conversion to the stored type."""


class InvalidFrames(CacheError, ValueError):
    """Frame indices that are negative, or presentation times that are not finite."""


class InvalidImport(CacheError, ValueError):
    """A file that cannot be imported, or options of an import that make no sense."""


class InvalidSetting(CacheError, ValueError):
    """A setting of the cache that makes no sense: an environment variable, or a URL."""


class ShapeMismatch(CacheError, ValueError):
    """Arrays whose shapes do not fit together."""


class WriteFailed(CacheError, OSError):
    """Features that could not be written, for a reason such as a full or read-only disk or a store that refuses."""


class MissingExtra(CacheError, ImportError):
    """A package that is not installed and that an optional part of the cache needs."""
