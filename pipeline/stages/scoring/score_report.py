"""What became of the files that `gig score` was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.stages.common.quarantine import Quarantine

__all__ = ["ScoreReport", "quarantine_of"]


@dataclass(frozen=True)
class ScoreReport:
    """What became of the files, each named as its table is.

    Attributes:
        tables: score tables of all files that have one, in the order of the files; CSV where that was asked for.
        scored: files that were scored now.
        kept: files whose table was there already, made from the same content with the same head and settings.
        damaged: files of which damaged parts were left out.
        failed: file -> why it could not be scored.
        unreached: those of `failed` that could not be opened or copied here, so that nothing is known of their content.
        known: file -> SHA-256 of its content, where the caller has said that this needs no scores.
    """

    tables: tuple[Path, ...]
    scored: tuple[str, ...]
    kept: tuple[str, ...]
    damaged: tuple[str, ...]
    failed: dict[str, str]
    unreached: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)


def quarantine_of(folder: Path) -> Quarantine:
    """The files that could not be scored into a folder of score tables."""
    return Quarantine(folder / "quarantine")
