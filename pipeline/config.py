"""The experiment: frozen, strict models over one YAML file.

Unknown keys are refused by name with the nearest valid one. Fields carry their unit and their source in the paper
(Lv, Xu, Cui 2020, section 4.2, unless another is named); `gig config fields` prints them. Sections that determine a
result go into its recipe digest (`digest`); `machine` and `paths` say where and with what, and are in no digest.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from pipeline.config_datasets import (
    DATASETS,
    NAME_PATTERN,
    CitySceneDataset,
    CsvDataset,
    Dataset,
    Section,
    ShanghaiTechDataset,
    SyntheticDataset,
    UcfCrimeDataset,
    XdViolenceDataset,
)
from pipeline.errors import ConfigError

__all__ = [
    "CitySceneDataset",
    "CsvDataset",
    "Experiment",
    "Run",
    "ShanghaiTechDataset",
    "SyntheticDataset",
    "UcfCrimeDataset",
    "XdViolenceDataset",
    "digest",
    "field_table",
    "load_experiment",
    "parse_experiment",
    "to_yaml",
]

NAMESPACE_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,200}$"
RESERVED = ("frame", "time_s", "score", "Normal", "first_frame", "last_frame", "positions")


class Backbone(Section):
    """The feature extractor."""

    name: Literal["tpn_slowonly_r50", "tpn_tiny"] = Field(
        default="tpn_slowonly_r50", description="TPN on ResNet-50 SlowOnly, as in the paper, or the small stand-in."
    )
    weights: str = Field(
        description="A checkpoint (.pth of mmaction2 or .safetensors), `bundled` (tpn_tiny only), or `random`, "
        "which must be asked for. The paper: Kinetics-400.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the initialisation when weights are `random`.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="What the backbone computes in. Refused where the device has no instructions for it."
    )


class Decoding(Section):
    """What is done with a video that is damaged in part. One of which nothing can be decoded always goes to quarantine."""

    on_damage: Literal["keep", "quarantine"] = Field(
        default="keep", description="keep: the frames before and after the damage are used, and the commit record says so."
    )
    keep_share: float = Field(
        default=0.9, ge=0, le=1, description="Share of the declared frames that must be there; with fewer, quarantine."
    )


class Preprocess(Section):
    """From decoded frames to the backbone's input (METHOD, stage 1)."""

    short_side: int = Field(default=256, ge=32, le=2048, description="Shorter side after resizing, pixels.")
    crop: int = Field(default=224, ge=32, le=2048, multiple_of=32, description="Side of the centre crop, pixels; 224 gives 7 x 7.")

    @model_validator(mode="after")
    def _fits(self) -> Preprocess:
        if self.crop > self.short_side:
            raise ValueError(f"crop ({self.crop}) is larger than short_side ({self.short_side})")
        return self


class TrainSampling(Section):
    """Clips of a training video."""

    segments: int = Field(default=8, ge=1, description="Equal parts of a video, T. Paper: 8.")
    clip_frames: int = Field(default=6, ge=1, description="Frames of a clip. Paper: 6.")
    interval_frames: int = Field(default=5, ge=1, description="Distance between a clip's frames. Paper: 5.")
    clips_per_segment: int = Field(default=1, ge=1, description="Clips averaged for a segment (see METHOD).")
    views: int = Field(default=2, ge=1, description="Random draws of every video kept in the cache; odd ones flipped.")
    seed: int = Field(default=0, ge=0, description="Seed of the random starts.")


class TestSampling(Section):
    """Sliding windows over a test video."""

    window_frames: int = Field(default=6, ge=1, description="Frames of a window. Paper: 6.")
    stride_frames: int = Field(default=3, ge=1, description="Frames from one window's start to the next. Paper: 3.")
    interval_frames: int = Field(default=1, ge=1, description="Distance between a window's frames. Paper: consecutive.")

    @model_validator(mode="after")
    def _covers(self) -> TestSampling:
        span = (self.window_frames - 1) * self.interval_frames + 1
        if self.stride_frames > span:
            raise ValueError(f"stride_frames ({self.stride_frames}) leaves frames between windows of span {span}")
        return self


class Features(Section):
    """Imported features (`gig cache import`) in place of extracted ones; the sections on how to extract then decide nothing."""

    train: str | None = Field(
        default=None, pattern=NAMESPACE_PATTERN, description="Cache namespace of the training features; null extracts them."
    )
    test: str | None = Field(
        default=None, pattern=NAMESPACE_PATTERN, description="Cache namespace of the test features; null extracts them."
    )


class Storage(Section):
    """How features are kept."""

    dtype: Literal["float16", "float32"] = Field(default="float16", description="Type of the cached maps.")


class Head(Section):
    """The anomaly detector on the cached maps."""

    name: Literal["gig", "pattern_norm"] = Field(
        default="gig", description="gig: eqs. 1 to 14. pattern_norm: the length of the pattern vector, nothing learnt."
    )
    k: int = Field(default=8, ge=1, description="Positions kept by spatial reasoning, eq. 6, of rows x columns.")
    p: int = Field(default=2, ge=1, description="Segments of the consensus, eq. 8, of T.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Dropout before phi1 and phi2. Paper: 0.5.")
    lambda1: float = Field(default=1.0, ge=0, description="Weight of the segment loss, eq. 12. Paper: 1.")
    lambda2: float = Field(default=0.5, ge=0, description="Weight of the class loss, eq. 12. Paper: 0.5.")
    lambda3: float = Field(default=0.1, ge=0, description="Weight of the sparsity, eq. 14. Paper: 0.1.")
    standardize: bool = Field(
        default=False, description="Replace X by ReLU((X - mu) / sigma - standardize_offset); not in the paper."
    )
    standardize_offset: float = Field(default=1.0, description="The b of METHOD's extension, in units of sigma.")


class Training(Section):
    """Fitting the head."""

    epochs: int = Field(default=100, ge=1, description="Passes over the bags. Paper: 100.")
    batch_bags: int = Field(default=8, ge=1, description="Bags of a batch. Paper: 8.")
    optimizer: Literal["adagrad"] = Field(default="adagrad", description="Paper: Adagrad.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Paper: 0.001.")
    seed: int = Field(default=0, ge=0, description="Seed of initialisation, order and dropout.")
    permute_labels_seed: int | None = Field(
        default=None, ge=0, description="A control: shuffle the training labels over the videos with this seed."
    )


class Selection(Section):
    """A validation split carved from the training videos, on which the epoch and the class thresholds are chosen."""

    validation_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training videos, by source where it is known, that is held out; 0: the last epoch and "
        "evaluation.threshold are used.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of videos.")


class Scoring(Section):
    """From window scores to frame scores."""

    smooth_sigma: float = Field(default=2.0, ge=0, description="Gaussian sigma, in units of smooth_on. Paper: 2.")
    smooth_on: Literal["windows", "frames", "none"] = Field(
        default="windows", description="What is smoothed. Paper: the rough anomaly, i.e. windows."
    )


class Evaluation(Section):
    """From frame scores to figures."""

    mode: Literal["threshold", "argmax"] = Field(
        default="threshold", description="threshold: a frame may get several classes; argmax: at most one."
    )
    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="theta of the class-wise figures; with selection.validation_share, of classes that it cannot judge. "
        "Never tuned on test labels.",
    )
    resamples: int = Field(default=1000, ge=0, le=1_000_000, description="Draws of the bootstrap over videos; 0 for no intervals.")
    bootstrap_seed: int = Field(default=0, ge=0, description="Seed of the draws.")


class Run(Section):
    """One line of the summary: a head with its training, scoring and evaluation."""

    head: Head = Head()
    training: Training = Training()
    selection: Selection = Selection()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()


class Machine(Section):
    """What the work runs on, and what it puts up with. In no digest: none of it decides a result beyond rounding."""

    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    batch_clips: int = Field(default=8, ge=1, description="Clips the backbone sees at once.")
    threads: int = Field(default=0, ge=0, description="CPU threads of torch; 0 leaves its own choice.")
    shards: int = Field(default=1, ge=1, description="Extraction tasks per split; luigi --workers runs them in parallel.")
    decode_workers: int = Field(
        default=2, ge=1, le=64, description="Decoder processes of an extraction; each decodes one video ahead."
    )
    decode_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds without a sign of life after which a decoder is given up; its video goes to quarantine.",
    )
    max_quarantined: int = Field(
        default=0,
        ge=0,
        description="Unreadable videos that are accepted; with more, EvaluateAll does the rest, lists them, fails.",
    )
    checkpoint_epochs: int = Field(default=10, ge=1, description="Epochs from one training checkpoint to the next.")


class Paths(Section):
    """Where things go. In no digest."""

    output: Path = Field(default=Path("var"), description="Results: <output>/<experiment>/.")
    cache: str = Field(default="var/cache", description="Feature cache: a folder or an fsspec URL.")


class Experiment(Section):
    """One experiment: data, features and any number of runs on them."""

    experiment: str = Field(pattern=NAME_PATTERN, description="Name; results lie under <output>/<experiment>/.")
    dataset: Dataset = Field(discriminator="adapter", description="The videos.")
    backbone: Backbone
    decoding: Decoding = Decoding()
    preprocess: Preprocess = Preprocess()
    train_sampling: TrainSampling = TrainSampling()
    test_sampling: TestSampling = TestSampling()
    storage: Storage = Storage()
    features: Features = Features()
    head: Head = Head()
    training: Training = Training()
    selection: Selection = Selection()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()
    runs: dict[Annotated[str, Field(pattern=NAME_PATTERN)], dict[str, dict[str, Any]]] = Field(
        default={"gig": {}},
        description="Lines of the summary: name -> what it changes of head, training, selection, scoring and evaluation.",
    )
    machine: Machine = Machine()
    paths: Paths = Paths()

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        if not self.runs:
            raise ValueError("runs is empty: nothing to do")
        classes = self.dataset.classes
        if len(set(classes)) < len(classes):
            raise ValueError(f"dataset.classes holds a class twice: {', '.join(classes)}")
        for name in classes:
            if name in RESERVED or not name.strip():
                raise ValueError(f"dataset.classes: {name!r} is a column of the score tables, or empty")
        cells = (self.preprocess.crop // 32) ** 2
        for name in self.runs:
            run = self.run(name)
            # The shape of imported maps is in the cache, which train_head asks.
            if run.head.k > cells and not (self.features.train and self.features.test):
                raise ValueError(f"runs.{name}: head.k is {run.head.k}, a feature map has {cells} positions")
            if run.head.p > self.train_sampling.segments and not self.features.train:
                raise ValueError(f"runs.{name}: head.p is {run.head.p}, a bag has {self.train_sampling.segments} segments")
        return self

    def run(self, name: str) -> Run:
        """The sections of one run, its changes applied. Raises ConfigError for a name that is not in `runs`."""
        if name not in self.runs:
            raise ConfigError(f"no run {name!r} in experiment {self.experiment}; there are: {', '.join(self.runs)}")
        base = {key: getattr(self, key).model_dump() for key in Run.model_fields}
        changes = self.runs[name]
        for section, values in changes.items():
            if section not in base:
                raise ValueError(f"runs.{name}.{section}: a run changes only {', '.join(base)}")
            base[section].update(values)
        try:
            return Run.model_validate(base)
        except ValidationError as error:
            lines = "; ".join(_describe(item, f"runs.{name}") for item in error.errors())
            raise ValueError(lines) from error


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment from a YAML file. Raises ConfigError naming file, key and the nearest valid key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: the configuration cannot be read ({error.strerror}); paths are relative to {Path.cwd()}: "
            "run from the project's root, or give --config a full path"
        ) from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    return parse_experiment(data, where=str(path))


def parse_experiment(data: object, where: str = "config") -> Experiment:
    """Validate plain data as an experiment. Raises ConfigError listing every problem at once."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping of sections, got {type(data).__name__}")
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(item)}" for item in error.errors())
        raise ConfigError(f"{where}: {error.error_count()} problem(s)\n{problems}") from error


def _describe(item: Any, prefix: str = "") -> str:
    """One line for one pydantic error: the key, what is wrong, and for an unknown key the nearest valid one."""
    location = [str(part) for part in item["loc"] if part not in DATASETS]
    key = ".".join(([prefix] if prefix else []) + location) or "experiment"
    if item["type"] == "extra_forbidden":
        known = _keys_of(item["loc"][:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
        return f"{key}: unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    got = "" if item["type"] in ("missing", "value_error") else f", got {item['input']!r}"
    return f"{key}: {item['msg'].removeprefix('Value error, ')}{got}"


def _keys_of(location: tuple) -> list[str]:
    """Valid keys of the section at a pydantic error location."""
    model: Any = Run if location and location[0] in Run.model_fields else Experiment
    for part in location:
        if part in DATASETS:
            model = DATASETS[part]
        elif part in getattr(model, "model_fields", {}) and isinstance(model.model_fields[part].annotation, type):
            model = model.model_fields[part].annotation
    return list(getattr(model, "model_fields", {}))


def digest(*parts: object) -> str:
    """8 hex digits of SHA-256 over the canonical JSON of sections (models) and plain values."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def to_yaml(section: BaseModel) -> str:
    """The resolved section as YAML, defaults spelled out."""
    return yaml.safe_dump(section.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def field_table(model: type[BaseModel] = Experiment, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, description) of every field, depth first."""
    rows: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        annotation = field.annotation
        if name == "dataset":
            for adapter, section in DATASETS.items():
                rows += field_table(section, f"dataset({adapter}).")
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            rows += field_table(annotation, f"{key}.")
        else:
            default = "required" if field.is_required() else json.dumps(field.default, default=str)
            rows.append((key, default, field.description or ""))
    return rows
