"""A validation split carved from the training videos, so that nothing is chosen on the test split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.data.manifest import VideoEntry
from pipeline.errors import ManifestError

__all__ = ["carve_validation"]


def carve_validation(entries: Sequence[VideoEntry], share: float, seed: int) -> tuple[str, ...]:
    """Choose some training videos for validation.

    Videos of one source form a group and stay together; a video without a source is a group of its own. Of the groups
    with the same labels the share is taken: at least one where there are two or more, and never all. The choice depends
    on the seed and the names alone.

    Args:
        entries: the training videos.
        share: share of the groups to take, in (0, 1).
        seed: of the choice.

    Returns:
        Sorted ids.

    Raises:
        ManifestError: one of the two parts would be without normal or without anomalous videos.
    """
    groups: dict[tuple[str, str], list[VideoEntry]] = {}
    for entry in entries:
        key = ("source", entry.source) if entry.source else ("video", entry.video_id)
        groups.setdefault(key, []).append(entry)
    strata: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for key, members in groups.items():
        strata.setdefault(tuple(sorted({label for entry in members for label in entry.known_labels})), []).append(key)
    chosen: set[str] = set()
    for keys in strata.values():
        keys.sort(key=lambda key: hashlib.sha256(f"{seed}\0{key[0]}\0{key[1]}".encode()).digest())
        count = min(len(keys) - 1, max(1, round(share * len(keys))))
        chosen.update(entry.video_id for key in keys[:count] for entry in groups[key])
    for name, part in (
        ("validation", [entry for entry in entries if entry.video_id in chosen]),
        ("fitting", [entry for entry in entries if entry.video_id not in chosen]),
    ):
        kinds = {bool(entry.labels) for entry in part}
        if kinds != {True, False}:
            missing = "anomalous" if True not in kinds else "normal"
            raise ManifestError(
                f"selection: no {missing} video would be left for {name}: {len(entries)} training videos of "
                f"{len(groups)} source(s) cannot be divided with validation_share {share}. A label is divided where "
                "two sources have it: list more of them, or leave selection.validation_share out"
            )
    return tuple(sorted(chosen))
