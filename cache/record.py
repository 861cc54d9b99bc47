"""The commit record: one small JSON object that makes a video's payload visible and says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cache.errors import InvalidRecord

__all__ = ["SCHEMA_VERSION", "CommitRecord"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CommitRecord:
    """What is stored of one video.

    Attributes:
        video_id, namespace: whose features, made how.
        payload: name of the immutable group, relative to the namespace.
        shapes: array name -> shape, for features (V, T, H, W, D), cue (V, D), frames (V, T, L), times (N,).
        dtype: of the features, float16 or float32.
        metadata_sha256: path in the payload -> SHA-256 of every zarr.json, which chunk checksums do not cover.
        provenance: free-form JSON: source file, weights, preprocessing, versions.
        created: ISO 8601, UTC.
        schema_version: of this record.
    """

    video_id: str
    namespace: str
    payload: str
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    metadata_sha256: Mapping[str, str]
    provenance: Mapping[str, Any]
    created: str
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if set(self.shapes) != {"features", "cue", "frames", "times"}:
            raise InvalidRecord(f"{self.video_id}: expected shapes of features, cue, frames and times, got {list(self.shapes)}")
        views, clips = self.shapes["features"][:2]
        if len(self.shapes["features"]) != 5 or self.shapes["cue"] != (views, self.shapes["features"][-1]):
            raise InvalidRecord(f"{self.video_id}: shapes {dict(self.shapes)} do not belong together")
        if self.shapes["frames"][:2] != (views, clips):
            raise InvalidRecord(f"{self.video_id}: shapes {dict(self.shapes)} do not belong together")
        if self.dtype not in ("float16", "float32"):
            raise InvalidRecord(f"{self.video_id}: dtype: expected float16 or float32, got {self.dtype!r}")

    def to_json(self) -> str:
        """The record as text."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> CommitRecord:
        """Parse a record. Raises InvalidRecord naming `where` for anything but a complete record of a known version."""
        try:
            data = json.loads(text)
            version = data["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRecord(f"{where}: not a commit record ({error})") from error
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise InvalidRecord(f"{where}: record of version {version}; this library reads up to {SCHEMA_VERSION}: upgrade it")
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise InvalidRecord(f"{where}: missing {sorted(names - set(data))}, unknown {sorted(set(data) - names)}")
        data["shapes"] = {name: tuple(shape) for name, shape in data["shapes"].items()}
        return cls(**data)
