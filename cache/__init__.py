"""A store of unpooled feature maps: complete or absent, checked on every read. No torch, no luigi."""

from cache.collect import Garbage
from cache.errors import (
    CacheError,
    DamagedPayload,
    InvalidFrames,
    InvalidImport,
    InvalidName,
    InvalidRecord,
    MissingExtra,
    NonFiniteFeatures,
    NotCached,
    ReadFailed,
    ShapeMismatch,
    UnsupportedRecord,
    WriteFailed,
)
from cache.plain import PlainLayout
from cache.reader import FeatureReader
from cache.record import CommitRecord
from cache.store import FeatureStore, NamespaceStats
from cache.verify import Finding
from cache.writer import FeatureWriter

__all__ = [
    "CacheError",
    "CommitRecord",
    "DamagedPayload",
    "FeatureReader",
    "FeatureStore",
    "FeatureWriter",
    "Finding",
    "Garbage",
    "InvalidFrames",
    "InvalidImport",
    "InvalidName",
    "InvalidRecord",
    "MissingExtra",
    "NamespaceStats",
    "NonFiniteFeatures",
    "NotCached",
    "PlainLayout",
    "ReadFailed",
    "ShapeMismatch",
    "UnsupportedRecord",
    "WriteFailed",
]
