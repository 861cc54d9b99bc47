"""The commit record: one small JSON object that makes a video's payload visible and describes it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cache.errors import InvalidRecord, UnsupportedRecord

__all__ = ["SCHEMA_VERSION", "CommitRecord"]

SCHEMA_VERSION = 2
SEAL = "record_sha256"
AXES = {"features": 5, "cue": 2, "frames": 3, "times": 1}
PAYLOAD = re.compile(r"payloads/(?!\.)[^/\\\x00]+/(?!\.)[^/\\\x00]+")


@dataclass(frozen=True)
class CommitRecord:
    """What is stored of one video.

    Attributes:
        video_id: the video.
        namespace: which stands for the way its features were made.
        payload: name of the immutable group, relative to the namespace.
        shapes: shape by array name, for features (V, T, H, W, D), cue (V, D), frames (V, T, L), times (N,).
        dtype: float16 or float32, the type of the features.
        chunk_clips: clips of one view in a chunk of the features.
        metadata_sha256: SHA-256 of every zarr.json by its path in the payload; chunk checksums do not cover these.
        values_crc32c: CRC-32C of the values by array name, little-endian in C order, as 8 hex digits; one per view for
            the features.
        provenance: free-form JSON: source file, weights, preprocessing, versions.
        created: ISO 8601, UTC.
        schema_version: version of the record's format.

    Raises:
        InvalidRecord: fields that are out of range or contradict each other.
    """

    video_id: str
    namespace: str
    payload: str
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    chunk_clips: int
    metadata_sha256: Mapping[str, str]
    values_crc32c: Mapping[str, tuple[str, ...]]
    provenance: Mapping[str, Any]
    created: str
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Check every field that other code computes with or opens: a record can come from anywhere."""
        if not isinstance(self.payload, str) or not PAYLOAD.fullmatch(self.payload):
            raise InvalidRecord(
                f"{self.video_id}: payload: expected payloads/<key>/<name> below the namespace, got {self.payload!r}"
            )
        if set(self.shapes) != set(AXES):
            raise InvalidRecord(f"{self.video_id}: expected shapes of {', '.join(AXES)}, got {list(self.shapes)}")
        for name, shape in self.shapes.items():
            if len(shape) != AXES[name] or not all(type(size) is int and size >= 0 for size in shape):
                raise InvalidRecord(
                    f"{self.video_id}: shape of {name}: expected {AXES[name]} sizes from 0, got {list(shape)}"
                )
        views, clips = self.shapes["features"][:2]
        if self.shapes["cue"] != (views, self.shapes["features"][-1]) or self.shapes["frames"][:2] != (views, clips):
            raise InvalidRecord(f"{self.video_id}: shapes {dict(self.shapes)} do not belong together")
        if self.dtype not in ("float16", "float32"):
            raise InvalidRecord(f"{self.video_id}: dtype: expected float16 or float32, got {self.dtype!r}")
        if type(self.chunk_clips) is not int or self.chunk_clips < 1:
            raise InvalidRecord(f"{self.video_id}: chunk_clips: expected 1 or more, got {self.chunk_clips!r}")
        if missing := {"zarr.json", *(f"{name}/zarr.json" for name in AXES)} - set(self.metadata_sha256):
            raise InvalidRecord(f"{self.video_id}: metadata_sha256: no hash of {', '.join(sorted(missing))}")
        counts = {name: len(self.values_crc32c.get(name, ())) for name in AXES}
        if counts != (expected := {name: views if name == "features" else 1 for name in AXES}):
            raise InvalidRecord(f"{self.video_id}: values_crc32c: expected {expected} checksums, got {counts}")

    @property
    def feature_bytes(self) -> int:
        """Size of the features, uncompressed."""
        return math.prod(self.shapes["features"]) * (2 if self.dtype == "float16" else 4)

    def to_json(self) -> str:
        """The record as text with a seal: its last field is the SHA-256 of the text without that field."""
        return _sealed(asdict(self))

    @classmethod
    def from_json(cls, text: str, where: str) -> CommitRecord:
        """Parse a record.

        Args:
            text: what `to_json` returned.
            where: the name of the text in messages.

        Raises:
            InvalidRecord: the text is not byte for byte what was written.
            UnsupportedRecord: it is, but by a version of this library with another schema.
        """
        try:
            data = json.loads(text)
            version = data["schema_version"]
            written = data.pop(SEAL, None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRecord(f"{where}: not a commit record ({error})") from error
        # Version 1 had no seal. The seal comes before the version: a record with a damaged version is damaged, not
        # newer.
        if version != 1 and _sealed(data) != text:
            raise InvalidRecord(
                f"{where}: the record is not what was written (its {SEAL} is {written}, got {_digest(data)})"
            )
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            advice = "upgrade it" if newer else "extract the video again"
            raise UnsupportedRecord(
                f"{where}: record of version {version}; this library reads version {SCHEMA_VERSION}: {advice}"
            )
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise InvalidRecord(f"{where}: missing {sorted(names - set(data))}, unknown {sorted(set(data) - names)}")
        try:
            data["shapes"] = {name: tuple(shape) for name, shape in data["shapes"].items()}
            data["values_crc32c"] = {name: tuple(values) for name, values in data["values_crc32c"].items()}
            return cls(**data)
        except (TypeError, AttributeError) as error:
            raise InvalidRecord(f"{where}: not a commit record ({error})") from error
        except InvalidRecord as error:
            raise InvalidRecord(f"{where}: {error}") from error


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(data).encode()).hexdigest()


def _sealed(data: Mapping[str, Any]) -> str:
    return _text({**data, SEAL: _digest(data)})


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True)
