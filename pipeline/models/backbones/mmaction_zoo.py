"""What is known of the recognisers that mmaction2 ships, by the names of their configurations. Loads no torch.

`mmaction_zoo.json` is measured by `python -m pipeline.models.backbones.mmaction_survey`, which builds every recogniser
and tries clips and pictures on it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.errors import ConfigError

__all__ = ["ZOO_FILE", "Recogniser", "recogniser", "recognisers", "without_maps"]

ZOO_FILE = Path(__file__).with_name("mmaction_zoo.json")


@dataclass(frozen=True)
class Recogniser:
    """Facts of one shipped recogniser.

    Attributes:
        architecture: mmaction2's class of its backbone, and its neck's after a plus.
        channels: D of its maps; of SlowFast both pathways together.
        cell: pixels per position of a map.
        size: side of the pictures of its configuration, pixels, rounded up to a multiple of `cell`.
        any_size: whether it takes other pictures whose sides are multiples of `cell`.
        clip: frames of a clip in its configuration.
        interval: distance between them; None where they are spread over the whole video.
        shortest, longest: frames of a clip that it takes; longest is None where there is no limit.
        multiple: the number of frames must be a multiple of this.
        steps: time steps that are left of its own clip, over which maps are averaged.
        mean, std: by channel (RGB) of pictures with values 0 to 255.
        non_negative: whether its maps are behind a ReLU.
        parameters: number of weights without the recognition head, in millions.
    """

    architecture: str
    channels: int
    cell: int
    size: int
    any_size: bool
    clip: int
    interval: int | None
    shortest: int
    longest: int | None
    multiple: int
    steps: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    non_negative: bool
    parameters: float


@lru_cache(maxsize=1)
def _survey() -> tuple[Mapping[str, Recogniser], Mapping[str, str]]:
    content = json.loads(ZOO_FILE.read_text(encoding="utf-8"))
    known = {
        name: Recogniser(**{**entry, "mean": tuple(entry["mean"]), "std": tuple(entry["std"])})
        for name, entry in content["recognisers"].items()
    }
    return known, content["without_maps"]


def recognisers() -> Mapping[str, Recogniser]:
    """Those that can be used, by name."""
    return _survey()[0]


def without_maps() -> Mapping[str, str]:
    """Those that cannot be used, by name, with the reason."""
    return _survey()[1]


def recogniser(name: str) -> Recogniser:
    """Facts of a recogniser.

    Args:
        name: of its shipped configuration.

    Raises:
        ConfigError: there is none of this name, or it cannot be used; the message says why or names similar ones.
    """
    known, unusable = _survey()
    if name in known:
        return known[name]
    if name in unusable:
        raise ConfigError(f"backbone.name: mmaction:{name} cannot be used: {unusable[name]}")
    near = [full for full in known if name in full][:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"; similar: {', '.join(near)}" if near else ""
    raise ConfigError(f"backbone.name: mmaction2 ships no recogniser {name!r}{hint}. `gig backbones` lists them all")
