"""A store of unpooled feature maps: complete or absent, checked on every read. No torch, no luigi."""

from cache.errors import (
    CacheError,
    DamagedPayload,
    InvalidName,
    InvalidRecord,
    NonFiniteFeatures,
    NotCached,
    ShapeMismatch,
    WriteFailed,
)
from cache.reader import FeatureReader
from cache.record import CommitRecord
from cache.store import FeatureStore
from cache.writer import FeatureWriter

__all__ = [
    "CacheError",
    "CommitRecord",
    "DamagedPayload",
    "FeatureReader",
    "FeatureStore",
    "FeatureWriter",
    "InvalidName",
    "InvalidRecord",
    "NonFiniteFeatures",
    "NotCached",
    "ShapeMismatch",
    "WriteFailed",
]
