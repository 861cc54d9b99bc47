"""The sections of an experiment on how features are made."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from pipeline.config.backbone_names import check_backbone_name
from pipeline.config.section import Section, UserText

__all__ = [
    "Backbone",
    "Decoding",
    "Features",
    "Preprocess",
    "Storage",
    "TestSampling",
    "TrainSampling",
]

NAMESPACE_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,200}$"


class Backbone(Section):
    """The feature extractor."""

    later: ClassVar[tuple[str, ...]] = ("temporal",)

    name: Annotated[str, AfterValidator(check_backbone_name)] = Field(
        default="tpn_slowonly_r50",
        description="TPN on ResNet-50 SlowOnly, as in the paper; tpn_small or tpn_tiny, small stand-ins; "
        "timm:<model>, an image model; mmaction:<config>, a recogniser of mmaction2; python:<module>, your own "
        "(docs/backbones.md).",
    )
    weights: UserText = Field(
        description="A checkpoint (.safetensors, or .pth without code in it), `bundled` (tpn_tiny only), or `random`, "
        "which must be asked for. The paper: Kinetics-400.",
    )
    temporal: Literal["mean", "max", "diff"] = Field(
        default="mean",
        description="How an image model (timm) makes one map of a clip's frames: their mean or maximum, or diff: the "
        "mean and, as further channels, the mean absolute change from frame to frame.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the initialisation when weights are `random`.")
    precision: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        default="float32",
        description="Precision of the backbone's arithmetic; an error if the device lacks it. auto: bfloat16 "
        "on a CUDA device that has it, float16 on an older one, float32 on a CPU; the features are those of the "
        "precision chosen.",
    )

    @property
    def cell(self) -> int | None:
        """Pixels of the picture per cell of a map, in each direction; None where only the backbone's facts tell."""
        return None if self.family else 32

    @model_validator(mode="after")
    def _sees_time_itself(self) -> Backbone:
        if self.temporal != "mean" and self.family != "timm":
            raise ValueError(f"temporal: {self.temporal} is for image models (timm:<model>); {self.name} takes clips")
        return self

    @property
    def family(self) -> str:
        """The part of the name before its colon; "" for TPN."""
        return self.name.partition(":")[0] if ":" in self.name else ""

    @property
    def model(self) -> str:
        """The part of the name after its colon, or the whole name."""
        return self.name.partition(":")[2] or self.name

    def kept_temporal(self) -> str | None:
        """`temporal` where it decides something and is not the default; else None, which stands in no record."""
        return self.temporal if self.temporal != "mean" else None


class Decoding(Section):
    """What to do with partly damaged videos.

    A video of which nothing can be decoded always goes to quarantine.
    """

    on_damage: Literal["keep", "quarantine"] = Field(
        default="keep",
        description="keep: the frame before a lost one replaces it, and the commit record says which are lost.",
    )
    keep_share: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Share of the declared frames that must be undamaged; a video with fewer goes to quarantine.",
    )
    max_megapixels: float = Field(
        default=64.0,
        gt=0,
        le=2000,
        description="Largest picture in millions of pixels; a video with larger ones goes to quarantine.",
    )

    @property
    def max_pixels(self) -> int:
        """`max_megapixels` in pixels."""
        return round(self.max_megapixels * 1e6)

    def deciding(self) -> dict[str, object]:
        """The settings that decide the values of features; the limit on pixels only decides which videos have any."""
        return self.model_dump(mode="json", exclude={"max_megapixels"})


class Preprocess(Section):
    """From decoded frames to the backbone's input."""

    later: ClassVar[tuple[str, ...]] = ("fit", "height", "width")

    fit: Literal["crop", "stretch", "letterbox"] = Field(
        default="crop",
        description="What becomes of the picture. crop: a square of its centre; stretch: the whole picture, resized to "
        "height x width; letterbox: the whole picture with its own aspect, in the middle of height x width. Paper: "
        "crop.",
    )
    height: int | None = Field(
        default=None, ge=32, le=2048, description="Of the backbone's input with stretch and letterbox, pixels."
    )
    width: int | None = Field(
        default=None,
        ge=32,
        le=2048,
        description="Of the backbone's input with stretch and letterbox, pixels; 224 x 384 gives 7 x 12.",
    )
    short_side: int = Field(
        default=256, ge=32, le=2048, description="Shorter side after resizing, before the crop, pixels."
    )
    crop: Annotated[int, Field(ge=32, le=2048)] | Literal["own"] = Field(
        default=224,
        description="Side of the centre crop, pixels; 224 gives 7 x 7 with TPN. own: that of the pictures for which "
        "the backbone was made, cut from a shorter side of 8/7 of it; the default of all backbones but TPN.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Preprocess:
        if self.fit == "crop":
            if self.height or self.width:
                raise ValueError("height and width are for fit stretch and letterbox; fit crop cuts a square of `crop`")
            if self.crop == "own":
                if self.short_side != type(self).model_fields["short_side"].default:
                    raise ValueError("short_side decides nothing with crop: own; leave it out")
            elif self.crop > self.short_side:
                raise ValueError(f"crop ({self.crop}) is larger than short_side ({self.short_side})")
            return self
        if not (self.height and self.width):
            raise ValueError(f"fit {self.fit} needs height and width, such as 224 and 384 for pictures of 16:9")
        for name in ("short_side", "crop"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} decides nothing with fit {self.fit}; leave it out")
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the backbone's input, pixels; None where only the backbone's facts tell."""
        if self.height and self.width:
            return self.height, self.width
        return None if self.crop == "own" else (self.crop, self.crop)


class TrainSampling(Section):
    """Clips of a training video."""

    segments: int = Field(default=8, ge=1, description="Number of equal parts of a video, T. Paper: 8.")
    clip_frames: int = Field(default=6, ge=1, le=64, description="Frames of a clip; TPN takes up to 8. Paper: 6.")
    interval_frames: int = Field(
        default=5,
        ge=1,
        description="Distance between a clip's frames; it shrinks in segments that are too short. Paper: 5.",
    )
    clips_per_segment: int = Field(
        default=1, ge=1, description="Clips per segment; their maps are averaged. Paper: 1 or 6 (docs/method.md)."
    )
    views: int = Field(default=2, ge=1, description="Random draws of each video in the cache; odd ones are flipped.")
    seed: int = Field(default=0, ge=0, description="Seed of the random starts.")


class TestSampling(Section):
    """Sliding windows over a test video."""

    window_frames: int = Field(default=6, ge=1, le=64, description="Frames of a window; TPN takes up to 8. Paper: 6.")
    stride_frames: int = Field(default=3, ge=1, description="Frames from one window's start to the next. Paper: 3.")
    interval_frames: int = Field(default=1, ge=1, description="Distance between a window's frames. Paper: consecutive.")

    @model_validator(mode="after")
    def _covers(self) -> TestSampling:
        span = (self.window_frames - 1) * self.interval_frames + 1
        if self.stride_frames > span:
            raise ValueError(f"stride_frames ({self.stride_frames}) leaves frames between windows of span {span}")
        return self


class Features(Section):
    """Imported features (`gig cache import`) instead of extracted ones.

    The sections on how to extract them then have no effect.
    """

    train: str | None = Field(
        default=None,
        pattern=NAMESPACE_PATTERN,
        description="Cache namespace of the training features; null extracts them.",
    )
    test: str | None = Field(
        default=None, pattern=NAMESPACE_PATTERN, description="Cache namespace of the test features; null extracts them."
    )


class Storage(Section):
    """How features are stored."""

    dtype: Literal["float16", "float32"] = Field(default="float16", description="Type of the cached maps.")
