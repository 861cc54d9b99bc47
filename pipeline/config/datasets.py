"""The `dataset` section of an experiment: one frozen, strict model per adapter, chosen by `adapter`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.config.section import NAME_PATTERN, Section
from pipeline.remote import AnyPath, RemotePath, path_of, scheme_of

__all__ = [
    "DATASETS",
    "CitySceneDataset",
    "CsvDataset",
    "Dataset",
    "GeneratedDataset",
    "ShanghaiTechDataset",
    "SyntheticCityDataset",
    "SyntheticDataset",
    "UcfCrimeDataset",
    "XdViolenceDataset",
]


def _root(value: object) -> AnyPath:
    if isinstance(value, RemotePath):
        return value
    if not isinstance(value, str | Path):
        raise PydanticCustomError("path_type", "expected a path")
    path = path_of(str(value))
    return Path(os.path.expanduser(path)) if isinstance(path, Path) else path


Root = Annotated[Path | RemotePath, PlainValidator(_root), PlainSerializer(str, return_type=str)]
"""A folder of this machine, whose path may begin with `~`, or a URL of a storage that fsspec reaches."""


def _not_a_url(path: Path) -> Path:
    if scheme := scheme_of(str(path)):
        raise ValueError(f"expected a path below dataset.root, or an absolute one of this machine, got one on {scheme}")
    return path


ListPath = Annotated[Path, AfterValidator(_not_a_url)]
"""A path relative to the root of a data set; an absolute one is of this machine, also where the root is a URL."""

ClassNames = Annotated[tuple[str, ...], Field(min_length=1)]
FrameRange = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


UCF_CLASSES = (
    "Abuse",
    "Arrest",
    "Arson",
    "Assault",
    "Burglary",
    "Explosion",
    "Fighting",
    "RoadAccidents",
    "Robbery",
    "Shooting",
    "Shoplifting",
    "Stealing",
    "Vandalism",
)
CITYSCENE_CLASSES = (
    "Accident",
    "Carrying",
    "Crowd",
    "Explosion",
    "Fighting",
    "Graffiti",
    "Robbery",
    "Shooting",
    "Smoking",
    "Stealing",
    "Sweeping",
    "WalkingDog",
)


FRAME_COUNTS = Field(
    default=None,
    description="A table of frame counts (docs/cache-analyst.md), relative to root. The videos then need not be there; "
    "for imported features and for score tables of other systems.",
)


class CsvDataset(Section):
    """Videos listed in a CSV file (columns video_id, path, split, label, optional source)."""

    adapter: Literal["csv"]
    name: str = Field(pattern=NAME_PATTERN, description="Name of the data set; part of the cache namespace.")
    root: Root = Field(
        description="Folder, or URL such as s3://bucket/folder, that the paths of the video list are relative to."
    )
    videos: ListPath = Field(default=Path("videos.csv"), description="The video list, relative to root.")
    annotations: ListPath | None = Field(
        default=None,
        description="Intervals of test videos, relative to root: video_id, label, start_frame, end_frame (exclusive).",
    )
    classes: ClassNames = Field(description="Anomaly classes in the order of the head's outputs 1..C; Normal is 0.")
    normal_label: str = Field(default="Normal", description="The label that means no anomaly.")
    whole_video_anomalous: bool = Field(
        default=False, description="All frames of an anomalous test video that has no interval count as anomalous."
    )
    frame_counts: ListPath | None = FRAME_COUNTS


class UcfCrimeDataset(Section):
    """UCF-Crime with its official annotation files (pipeline.data.datasets.ucf_crime)."""

    adapter: Literal["ucf_crime"]
    name: str = Field(
        default="ucf_crime", pattern=NAME_PATTERN, description="Name of the data set; part of the cache namespace."
    )
    root: Root = Field(description="Folder of the annotation files and of the videos, which can be in subfolders.")
    train_list: ListPath = Field(
        default=Path("Anomaly_Train.txt"), description="The training videos, relative to root."
    )
    annotations: ListPath = Field(
        default=Path("Temporal_Anomaly_Annotation.txt"),
        description="The test videos and their intervals, relative to root; ends are part of the intervals.",
    )
    classes: ClassNames = Field(
        default=UCF_CLASSES, description="Anomaly classes in the order of the head's outputs 1..C."
    )
    ignored_folders: tuple[str, ...] = Field(
        default=("Normal_Videos_for_Event_Recognition",),
        description="Names of folders to ignore; the official archive has other videos there under listed names.",
    )
    frame_counts: ListPath | None = FRAME_COUNTS


class XdViolenceDataset(Section):
    """XD-Violence with its official annotation files (pipeline.data.datasets.xd_violence)."""

    adapter: Literal["xd_violence"]
    name: str = Field(
        default="xd_violence", pattern=NAME_PATTERN, description="Name of the data set; part of the cache namespace."
    )
    root: Root = Field(description="Folder that all other paths are relative to.")
    train: ListPath = Field(
        default=Path("train"), description="Folder of the training videos, which can be in subfolders."
    )
    test: ListPath = Field(default=Path("test"), description="Folder of the test videos, which can be in subfolders.")
    annotations: ListPath = Field(
        default=Path("annotations.txt"), description="Intervals of the anomalous test videos; ends included."
    )
    class_annotations: ListPath = Field(
        default=Path("annotations_multiclasses.txt"), description="The same with the class of each interval."
    )
    classes: ClassNames = Field(
        default=("Fighting", "Shooting", "Riot", "Abuse", "CarAccident", "Explosion"),
        description="Anomaly classes (codes B1, B2, B4, B5, B6, G) in the order of the head's outputs 1..C.",
    )
    frame_counts: ListPath | None = FRAME_COUNTS


class ShanghaiTechDataset(Section):
    """ShanghaiTech Campus in the weakly supervised split (pipeline.data.datasets.shanghaitech)."""

    adapter: Literal["shanghaitech"]
    name: str = Field(
        default="shanghaitech", pattern=NAME_PATTERN, description="Name of the data set; part of the cache namespace."
    )
    root: Root = Field(description="Folder with `training` and `testing`, as published, and the two lists.")
    train_list: ListPath = Field(
        default=Path("SH_Train_new.txt"), description="Training videos and labels, relative to root."
    )
    test_list: ListPath = Field(
        default=Path("SH_Test_NEW.txt"), description="Test videos, labels and lengths, relative to root."
    )
    masks: ListPath = Field(
        default=Path("testing/test_frame_mask"), description="Folder of the frame masks, relative to root."
    )
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)] = Field(
        default=("Anomaly",), description="The name of the only class."
    )
    frame_counts: ListPath | None = FRAME_COUNTS


class CitySceneDataset(Section):
    """CitySCENE: one folder per class for training, a table of intervals for the test."""

    adapter: Literal["cityscene"]
    name: str = Field(
        default="cityscene", pattern=NAME_PATTERN, description="Name of the data set; part of the cache namespace."
    )
    root: Root = Field(description="Folder that all other paths are relative to.")
    train: ListPath = Field(
        default=Path("train"), description="Folder of the training videos, with one subfolder per class."
    )
    test: ListPath = Field(default=Path("test"), description="Folder of the test videos.")
    annotations: ListPath = Field(
        default=Path("annotations.csv"),
        description="Intervals of the test videos: video_id, label, start_frame, end_frame (exclusive).",
    )
    classes: ClassNames = Field(
        default=CITYSCENE_CLASSES, description="Anomaly classes in the order of the head's outputs 1..C."
    )
    frame_counts: ListPath | None = FRAME_COUNTS


class GeneratedDataset(Section):
    """What the generated data sets have in common; their videos are rendered, not read."""

    adapter: str
    name: str = Field(default="synthetic", pattern=NAME_PATTERN, description="Name; part of the cache namespace.")
    seed: int = Field(default=0, ge=0, description="Seed of the scenes.")
    classes: ClassNames = Field(description="Anomaly classes to render, in the order of the head's outputs 1..C.")
    train_normal: int = Field(ge=1, description="Normal training videos.")
    train_per_class: int = Field(ge=1, description="Training videos of each anomaly class.")
    test_normal: int = Field(ge=0, description="Test videos without an anomaly.")
    test_anomalous: int = Field(ge=1, description="Untrimmed test videos with anomalies.")
    size: int = Field(default=256, ge=64, le=1024, multiple_of=2, description="Width and height, pixels.")
    fps: int = Field(default=12, ge=1, le=60, description="Frames per second.")
    train_frames: FrameRange = Field(description="Shortest and longest training video, frames.")
    test_frames: FrameRange = Field(description="Shortest and longest test video, frames.")

    @field_validator("train_frames", "test_frames")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"the shortest ({value[0]}) is longer than the longest ({value[1]})")
        return value


class SyntheticDataset(GeneratedDataset):
    """The generated fixture: a fixed-camera street scene (pipeline.data.synthetic.generate)."""

    later: ClassVar[tuple[str, ...]] = ("width",)

    adapter: Literal["synthetic"]
    width: int | None = Field(
        default=None,
        ge=64,
        le=4096,
        multiple_of=2,
        description="Width, pixels; null: as `size`. All events of a wide scene happen at its sides, which the centre "
        "crop does not see.",
    )

    @model_validator(mode="after")
    def _room_at_the_sides(self) -> SyntheticDataset:
        if self.width is not None and not 1.7 * self.size <= self.width <= 4 * self.size:
            raise ValueError(f"width: expected 1.7 to 4 times the size of {self.size}, got {self.width}")
        return self


class SyntheticCityDataset(GeneratedDataset):
    """The generated city: the twelve classes of CitySCENE seen by many cameras (docs/synthetic_city.md)."""

    adapter: Literal["synthetic_city"]
    classes: ClassNames = Field(
        default=CITYSCENE_CLASSES, description="Anomaly classes to render, in the order of the head's outputs 1..C."
    )
    train_cameras: int = Field(
        ge=1, le=99, description="Number of places where the training videos are shot, each with its own camera."
    )
    test_cameras: int = Field(ge=1, le=99, description="Number of other places, where the test videos are shot.")


Dataset = (
    CsvDataset
    | UcfCrimeDataset
    | XdViolenceDataset
    | ShanghaiTechDataset
    | CitySceneDataset
    | SyntheticDataset
    | SyntheticCityDataset
)
DATASETS: dict[str, type[Section]] = {get_args(d.model_fields["adapter"].annotation)[0]: d for d in get_args(Dataset)}
