"""Parts of the training videos: some of them, and a validation split, so that nothing is chosen on the test split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.data.manifest import VideoEntry
from pipeline.errors import ManifestError

__all__ = ["Division", "carve_validation", "draw_videos"]


class Division(NamedTuple):
    """How a run divides the training videos.

    Attributes:
        validation_share: of the videos that are used; 0 without a validation split.
        validation_seed: of its choice.
        train_videos: number of videos that are used; None for all.
        videos_seed: of their choice.
    """

    validation_share: float = 0.0
    validation_seed: int = 0
    train_videos: int | None = None
    videos_seed: int = 0

    def used(self, entries: Sequence[VideoEntry]) -> tuple[VideoEntry, ...]:
        """The training videos that are used, in their order. Raises ManifestError if there are not so many."""
        return (
            tuple(entries) if self.train_videos is None else draw_videos(entries, self.train_videos, self.videos_seed)
        )

    def held_out(self, entries: Sequence[VideoEntry]) -> tuple[str, ...]:
        """Sorted ids of the validation split of all training videos; none without one.

        Raises ManifestError where they cannot be divided so.
        """
        used = self.used(entries)
        return carve_validation(used, self.validation_share, self.validation_seed) if self.validation_share else ()


def draw_videos(entries: Sequence[VideoEntry], count: int, seed: int) -> tuple[VideoEntry, ...]:
    """Draw some training videos, with normal videos and every class in about the shares that they have among all.

    All videos are brought into one order, of which the first are drawn, so that a smaller number is a part of a larger
    one. In it, normal and anomalous videos alternate as their numbers demand, beginning with one of each, and among
    the anomalous ones the classes do. The order depends on the seed, the names and the labels alone. Sources play no
    part.

    Args:
        entries: the training videos.
        count: number of videos to draw, at least 2.
        seed: of the choice.

    Returns:
        The videos, in the order of `entries`.

    Raises:
        ManifestError: there are fewer videos than that.
    """
    if count > len(entries):
        raise ManifestError(
            f"selection.train_videos: expected at most {len(entries)}, the number of training videos, got {count}"
        )

    def drawn_by(entry: VideoEntry) -> bytes:
        return hashlib.sha256(f"{seed}\0drawn\0{entry.video_id}".encode()).digest()

    kinds: dict[bool, dict[tuple[str, ...], list[VideoEntry]]] = {}
    for entry in sorted(entries, key=drawn_by):
        labels = tuple(sorted(entry.known_labels))
        kinds.setdefault(bool(labels), {}).setdefault(labels, []).append(entry)
    order = _alternating([_alternating(classes.values()) for classes in kinds.values()])
    chosen = {entry.video_id for entry in order[:count]}
    return tuple(entry for entry in entries if entry.video_id in chosen)


def _alternating(groups: Iterable[list[VideoEntry]]) -> list[VideoEntry]:
    """The videos of all groups in one order, whose beginnings have each group in about its share of all.

    Videos of the same place are in the order of `groups`.
    """
    placed = [(number / len(members), entry) for members in groups for number, entry in enumerate(members)]
    return [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]


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
                f"{len(groups)} source(s), any in quarantine not counted, cannot be divided with validation_share "
                f"{share}. A label is divided where two sources have it: list more of them, or leave "
                "selection.validation_share out"
            )
    return tuple(sorted(chosen))
