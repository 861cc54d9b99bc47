"""What the `head` sections of all heads have in common: how feature maps become the vectors that a head takes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config.section import Section

__all__ = ["COMMON", "MAPS", "REDUCTION", "SPATIAL", "Dropout", "Head", "Reduction", "Weight", "switch_head"]

Reduction = Literal["spatial", "mean", "max"]
REDUCTION = (
    "What a head sees of a map. spatial: the mean of the k positions most related to the cue, eq. 6; mean, max: over "
    "all positions."
)


def _positions(value: Any) -> int | float:
    """A number of positions, or a share of them; 1.0 could be meant as either, so it is refused."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 < value < 1:
            return float(value)
        if value >= 1 and value % 1 == 0 and (isinstance(value, int) or value > 1):
            return int(value)
    raise PydanticCustomError("positions", "a whole number of positions, or a share of them below 1")


Kept = Annotated[int | float, PlainValidator(_positions)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class Head(Section):
    """What all heads have in common: how feature maps become the vectors that a head takes.

    Attributes:
        sees_other_windows: whether a window's score depends on the windows around it.
    """

    sees_other_windows: ClassVar[bool] = False
    later: ClassVar[tuple[str, ...]] = ("cue_of", "cue_segments")

    reduction: Reduction = Field(default="mean", description=REDUCTION)
    k: Kept = Field(
        default=8,
        description="Positions kept by spatial reasoning, eq. 6, of rows x columns: a number, or a share below 1, such "
        "as 0.16. Paper: 8 of 7 x 7.",
    )
    relation: Literal["cosine", "dot", "background", "background_dot"] = Field(
        default="cosine",
        description="Relation of a position to the cue, eq. 5. Paper: cosine. dot: the product. For a still camera: "
        "background: how far a position is from its minimum over the video; background_dot: the product of the cue and "
        "the difference from it.",
    )
    cue_of: Literal["video", "segment", "top_segments"] = Field(
        default="video",
        description="The cue of eqs. 2 and 5 is the maximum over the video (paper), over the segment itself, or over "
        "the cue_segments segments whose own maxima are the longest vectors.",
    )
    cue_segments: int = Field(default=2, ge=1, description="Segments of cue_of: top_segments; windows in a test video.")
    enhancement: bool = Field(
        default=False, description="Replace X by sigmoid(g) * X + X, eq. 2, before the reduction."
    )
    standardize: bool = Field(
        default=False, description="Replace X by ReLU((X - mu) / sigma - standardize_offset); not in the paper."
    )
    standardize_offset: float = Field(default=1.0, description="The b of standardize, in units of sigma.")

    @model_validator(mode="after")
    def _every_field_decides_something(self) -> Head:
        for name in SPATIAL if self.reduction != "spatial" else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} decides nothing with reduction {self.reduction}; leave it out")
        if self.cue_of != "top_segments" and self.cue_segments != type(self).model_fields["cue_segments"].default:
            raise ValueError("cue_segments decides nothing without cue_of: top_segments; leave it out")
        if not self.standardize and self.standardize_offset != 1.0:
            raise ValueError("standardize_offset decides nothing without standardize; leave it out")
        return self

    def options(self) -> dict[str, Any]:
        """The fields that are the head's own, for its constructor."""
        return {name: value for name, value in self.model_dump().items() if name not in MAPS and name != "name"}

    def kept(self) -> dict[str, Any] | None:
        """How maps are reduced before the head, as arguments of `pattern_vectors`; None if the head takes the maps."""
        return self._reducing()

    def _reducing(self) -> dict[str, Any]:
        return self.model_dump(include=set(REDUCING))

    def overview(self) -> dict[str, Any]:
        """What the maps of a video are related to, as arguments of `pipeline.models.cues.overview`."""
        return {"cue_of": self.cue_of, "cue_segments": self.cue_segments, "relation": self.relation}

    @property
    def reads_maps_first(self) -> bool:
        """Whether the overview of a video needs its maps, and not only the maximum that is in the cache."""
        return self.cue_of == "top_segments" or self.needs_background

    @property
    def needs_background(self) -> bool:
        """Whether positions are related to the background of the video."""
        return self.relation in ("background", "background_dot")

    @property
    def least_segments(self) -> int:
        """How many segments a bag must have at least."""
        return 1


MAPS = tuple(Head.model_fields)
COMMON = ("standardize", "standardize_offset")
SPATIAL = ("k", "relation", "cue_of", "cue_segments")
"""What decides something with reduction spatial alone."""
REDUCING = tuple(name for name in MAPS if name not in (*COMMON, "cue_segments"))


def switch_head(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A run's head: the experiment's section with some changes.

    Args:
        base: the section of the experiment. If the changes name another head, only its `COMMON` fields are used.
        changes: those of the run.

    Returns:
        The section, without fields of the base that decide nothing after the changes.
    """
    if changes.get("name", base["name"]) != base["name"]:
        base = {name: base[name] for name in COMMON}
    idle = set(SPATIAL) if changes.get("reduction", "spatial") != "spatial" else set()
    idle |= {"standardize_offset"} if changes.get("standardize") is False else set()
    return {name: value for name, value in base.items() if name not in idle} | changes
