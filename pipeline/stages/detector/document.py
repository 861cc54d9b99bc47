"""The document of a detector: everything that determines a score, and what a person should know of the detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from pipeline.config import Experiment, Scoring
from pipeline.config.backbone_names import check_backbone_name
from pipeline.config.events import Events
from pipeline.config.features import Backbone, Decoding, Preprocess, Storage, TestSampling, TrainSampling
from pipeline.config.machine import Machine
from pipeline.config.section import Section
from pipeline.errors import DetectorError
from pipeline.stages.common.feature_recipe import FeatureRecipe

__all__ = ["Document", "HeadFacts", "Metrics", "OperatingPointFacts", "PackedBackbone", "Probe", "TrainedOn"]

MOST_SIGMA = 100_000.0
"""Of the smoothing: the filter takes memory in proportion to it."""

Number = float | None


class _Temporal(Section):
    """`temporal` as in a recipe: None, and not written, unless an image model does something else than average."""

    temporal: Literal["max", "diff"] | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {key: value for key, value in data.items() if key != "temporal" or value}


class PackedBackbone(_Temporal):
    """The backbone: `packed` says whether the file holds its weights, or only their SHA-256."""

    name: Annotated[str, AfterValidator(check_backbone_name)]
    weights_sha256: str = Field(max_length=100)
    precision: Literal["float32", "bfloat16", "float16"]
    packed: bool

    @model_validator(mode="after")
    def _of_a_known_family(self) -> PackedBackbone:
        if self.settings.family == "python":  # loading a detector must run nothing but this program
            raise ValueError(f"name: {self.name} is a module of its own, which no detector names")
        return self

    @property
    def settings(self) -> Backbone:
        """As a section of a configuration, without weights."""
        return Backbone(
            name=self.name, weights="of the detector", precision=self.precision, temporal=self.temporal or "mean"
        )


class Features(_Temporal):
    """How the features that the head was trained on were made; as `FeatureRecipe`."""

    backbone: str
    weights_sha256: str
    precision: str
    preprocess: dict[str, int | str]
    sampling: TrainSampling
    dtype: str
    map_shape: tuple[int, int, int]

    def recipe(self) -> FeatureRecipe:
        """The same as what heads are compared by."""
        return FeatureRecipe.from_json(self.model_dump())


class HeadFacts(Section):
    """The head, as its own file has it."""

    settings: dict[str, Any]
    classes: tuple[str, ...] = Field(min_length=1, max_length=10_000)
    channels: int | None
    features: Features


class OperatingPointFacts(Section):
    """Upper thresholds of events by class and `anomaly`: those in `chosen` come from validation videos."""

    thresholds: dict[str, float]
    chosen: tuple[str, ...] = ()
    normal_videos: int = 0
    normal_hours: float = 0.0
    notes: tuple[str, ...] = ()


class TrainedOn(Section):
    """The training data, without paths: names, counts, digests of files and labels, and how the head was trained.

    Attributes:
        videos: number of training videos by label; one of several labels counts for each.
        training_videos: how many there are.
        left_out: training videos that could not be read.
        digests: 8 hex digits each, of the state of the files, the labels and the trained head.
        settings: the sections training and selection, and finetune for a tuned model.
    """

    dataset: str
    adapter: str
    training_videos: int
    videos: dict[str, int]
    left_out: int = 0
    digests: dict[str, str]
    settings: dict[str, dict[str, Any]]


class Metric(Section):
    """A metric of the test videos with its interval; `reason` says why a number is missing."""

    value: Number
    low: Number = None
    high: Number = None
    reason: str = ""


class Metrics(Section):
    """Metrics on the test videos of the data set; `level` is that of the intervals."""

    videos: int
    anomalous_videos: int
    frames: int
    level: float
    figures: dict[str, Metric]
    events: dict[str, Metric] = {}


class Probe(Section):
    """Scores of the generated clip, (N,) of anomaly in general, as the machine that packed the detector had them."""

    anomaly: tuple[float, ...]
    device: str


class Document(Section):
    """A detector but for its tensors.

    Attributes:
        name: for people.
        code_version: of the program that packed it.
        numbers: of the stages `features` and `scores`, which change when the program computes something else.
        warnings: why scores mean nothing for real videos, a sentence each; none for a model trained on such.
    """

    name: str = Field(max_length=200)
    code_version: str
    experiment: str
    run: str
    stage: Literal["frozen", "finetuned"]
    backbone: PackedBackbone
    decoding: Decoding
    preprocess: Preprocess
    test_sampling: TestSampling
    storage: Storage
    head: HeadFacts
    scoring: Scoring
    class_thresholds: dict[str, float | None] | None
    events: Events
    operating_point: OperatingPointFacts
    trained_on: TrainedOn
    metrics: Metrics | None
    warnings: tuple[str, ...]
    numbers: dict[str, int]
    probe: Probe | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: Path) -> Document:
        """The document of plain data, all of whose sections fit together. Raises DetectorError with every problem."""
        try:
            document = cls.model_validate(data)
            document.experiment_for(Machine())
            return document
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:10]]
            raise DetectorError(f"{where}: its document is not valid\n  " + "\n  ".join(lines)) from error

    @model_validator(mode="after")
    def _bounded(self) -> Document:
        if self.scoring.smooth_sigma > MOST_SIGMA:
            raise ValueError(
                f"scoring.smooth_sigma: expected at most {MOST_SIGMA:g}, got {self.scoring.smooth_sigma:g}"
            )
        return self

    def experiment_for(self, machine: Machine) -> Experiment:
        """An experiment of these settings, for the stages; it has no data set.

        Raises pydantic's ValidationError where they do not fit together.
        """
        return Experiment.model_validate(
            {
                "experiment": "detector",
                "dataset": {"adapter": "csv", "name": "none", "root": ".", "classes": list(self.head.classes)},
                "backbone": self.backbone.settings,
                "decoding": self.decoding,
                "preprocess": self.preprocess,
                "train_sampling": self.head.features.sampling,
                "test_sampling": self.test_sampling,
                "storage": self.storage,
                "head": self.head.settings,
                "scoring": self.scoring,
                "events": self.events,
                "machine": machine,
            }
        )
