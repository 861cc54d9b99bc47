"""The experiment: frozen, strict models of one YAML file.

An unknown key is an error that names the nearest valid key. The description of a field has its unit and its source in
the paper (Lv, Xu, Cui 2020, section 4.2, unless another is named); `gig config fields` prints them. Sections that
decide a result are part of its recipe digest (`digest`); `expected`, `machine` and `paths` are part of none.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline.config.backbone_names import TPN_LONGEST_CLIP, TPN_NAMES
from pipeline.config.datasets import (
    DATASETS,
    Dataset,
)
from pipeline.config.events import Events
from pipeline.config.expected import Expected
from pipeline.config.features import Backbone, Decoding, Features, Preprocess, Storage, TestSampling, TrainSampling
from pipeline.config.finetune import Finetune
from pipeline.config.head_base import switch_head
from pipeline.config.heads import HEADS, AnyHead, GigHead
from pipeline.config.machine import Machine, Paths
from pipeline.config.published import presets_spelled_out, published_training
from pipeline.config.runs import Evaluation, Run, Scoring, Selection, Training
from pipeline.config.section import NAME_PATTERN, Section, inner_section
from pipeline.config.text import read_yaml
from pipeline.config.wording import key_of, wording
from pipeline.errors import ConfigError

__all__ = [
    "Experiment",
    "field_table",
    "load_experiment",
    "parse_experiment",
]

TAGGED = {(1, "dataset", name) for name in DATASETS} | {(1, "head", name) for name in HEADS}
RESERVED = ("frame", "time_s", "score", "Normal", "first_frame", "last_frame", "positions", "relations")


def _says_no_size(preprocess: object) -> bool:
    """Whether a section `preprocess`, as it is in a file, leaves the size of the picture open."""
    if not isinstance(preprocess, dict):
        return preprocess is None
    return {key: value for key, value in preprocess.items() if value is not None} in ({}, {"fit": "crop"})


class Experiment(Section):
    """One experiment: data, features and any number of runs on them."""

    experiment: str = Field(pattern=NAME_PATTERN, description="Name; results lie under <output>/<experiment>/.")
    dataset: Dataset = Field(discriminator="adapter", description="The videos.")
    backbone: Backbone = Field(
        description="The feature extractor; may be left out where the features of both splits are imported."
    )
    decoding: Decoding = Decoding()
    preprocess: Preprocess = Preprocess()
    train_sampling: TrainSampling = TrainSampling()
    test_sampling: TestSampling = TestSampling()
    storage: Storage = Storage()
    features: Features = Features()
    head: AnyHead = GigHead()
    training: Training = Training()
    selection: Selection = Selection()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()
    events: Events = Events()
    runs: dict[Annotated[str, Field(pattern=NAME_PATTERN)], dict[str, dict[str, Any]]] = Field(
        default={"gig": {}},
        description="Lines of the summary: by name, what the run changes in head, training, selection, scoring and "
        "evaluation. `training: paper` is the training that was published for the run's head.",
    )
    finetune: Finetune = Finetune()
    expected: Expected = Expected()
    machine: Machine = Machine()
    paths: Paths = Paths()

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_extract(cls, data: Any) -> Any:
        """A backbone that nothing uses, where the features of both splits are imported and none is named."""
        features = data.get("features") if isinstance(data, dict) else None
        if isinstance(features, dict) and features.get("train") and features.get("test") and "backbone" not in data:
            return data | {"backbone": {"name": "tpn_tiny", "weights": "bundled"}}
        return data

    @model_validator(mode="before")
    @classmethod
    def _own_picture(cls, data: Any) -> Any:
        """`preprocess.crop: own` of a backbone other than TPN, where no size is said; TPN's own in numbers."""
        backbone = data.get("backbone") if isinstance(data, dict) else None
        if not isinstance(backbone, dict):
            return data
        name, preprocess = backbone.get("name", ""), data.get("preprocess")
        if isinstance(name, str) and ":" in name and _says_no_size(preprocess):
            return data | {"preprocess": {"crop": "own"}}
        if isinstance(name, str) and ":" not in name and preprocess == {"crop": "own"}:
            return data | {"preprocess": {}}  # one way to name these features
        return data

    @field_validator("runs", mode="before")
    @classmethod
    def _presets(cls, runs: Any) -> Any:
        return (
            {name: presets_spelled_out(changes) for name, changes in runs.items()} if isinstance(runs, dict) else runs
        )

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
        if "anomaly" in classes and len(classes) > 1:
            raise ValueError(
                "dataset.classes: 'anomaly' is the name of anomaly in general in lists of events; expected another "
                "name of the class"
            )
        for name in self.events.by_class:
            if name not in (*classes, "anomaly"):
                raise ValueError(
                    f"events.by_class.{name}: expected anomaly, for anomaly in general, or one of {', '.join(classes)}"
                )
        size = self._map_size()
        cells = size[0] * size[1] if size else None
        for name in self.runs:
            run = self.run(name)
            imported = self.features.train and self.features.test  # the cache has the shape of imported maps
            if run.head.reduction == "spatial" and cells is not None and run.head.k > cells and not imported:
                raise ValueError(f"runs.{name}: head.k is {run.head.k}, a feature map has {cells} positions")
            least, segments = run.head.least_segments, self.train_sampling.segments
            if least > segments and not self.features.train:
                raise ValueError(f"runs.{name}: head.p is {least}, a bag has {segments} segments")
        if self.finetune.enabled:
            self._check_finetune()
        return self

    def _map_size(self) -> tuple[int, int] | None:
        """Rows and columns of a feature map, where the configuration alone tells.

        Raises:
            ValueError: the picture does not have a whole number of each.
        """
        cell, size = self.backbone.cell, self.preprocess.size
        if cell is not None and size is None:
            raise ValueError(f"preprocess.crop: {self.backbone.name} takes a number, 224 where it is left out; got own")
        if cell is None or size is None:
            return None
        names = ("crop", "crop") if self.preprocess.fit == "crop" else ("height", "width")
        for name, pixels in zip(names, size, strict=True):
            if pixels % cell:
                raise ValueError(f"preprocess.{name}: expected a multiple of {cell}, got {pixels}")
        return size[0] // cell, size[1] // cell

    @model_validator(mode="after")
    def _clips_fit(self) -> Experiment:
        for key, frames in (
            ("train_sampling.clip_frames", self.train_sampling.clip_frames),
            ("test_sampling.window_frames", self.test_sampling.window_frames),
        ):
            if not self.backbone.family and frames > TPN_LONGEST_CLIP:  # others are asked with their facts
                raise ValueError(
                    f"{key}: {self.backbone.name} takes clips of 1 to {TPN_LONGEST_CLIP} frames, got {frames}"
                )
        return self

    def _check_finetune(self) -> None:
        name = self.finetune.run
        if name not in self.runs:
            raise ValueError(f"finetune.run: no run {name!r}; there are: {', '.join(self.runs)}")
        run = self.run(name)
        if self.backbone.family:
            raise ValueError(f"finetune: only {', '.join(TPN_NAMES)} can be fine-tuned, not {self.backbone.name}")
        if run.head.name != "gig":
            raise ValueError(f"finetune.run: expected a run whose head is gig, {name} has {run.head.name}")
        if run.head.channel_attention:
            raise ValueError(
                f"finetune.run: {name} has a channel attention, which is for frozen features; leave it out"
            )
        if self.features.train or self.features.test:
            raise ValueError("finetune: expected features extracted from videos, `features` names imported ones")
        if self.finetune.patience_epochs and not run.selection.validation_share:
            raise ValueError(
                "finetune.patience_epochs: early stopping needs a validation split, selection.validation_share is 0"
            )

    def run(self, name: str) -> Run:
        """The sections of one run with its changes. Raises ConfigError for a name that is not in `runs`."""
        if name not in self.runs:
            raise ConfigError(f"no run {name!r} in experiment {self.experiment}; there are: {', '.join(self.runs)}")
        base = {key: getattr(self, key).model_dump() for key in Run.model_fields}
        changes = self.runs[name]
        for section, values in changes.items():
            if section not in base:
                raise ValueError(f"runs.{name}.{section}: a run changes only {', '.join(base)}")
            base[section] = switch_head(base[section], values) if section == "head" else base[section] | values
        if "training" in changes:
            try:
                base["training"] = published_training(
                    base["head"]["name"], self.training.model_dump(), changes["training"]
                )
            except ValueError as error:
                raise ValueError(f"runs.{name}.{error}") from error
        try:
            return Run.model_validate(base)
        except ValidationError as error:
            lines = "; ".join(_describe(item, f"runs.{name}") for item in error.errors())
            raise ValueError(lines) from error


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment from a YAML file. Raises ConfigError naming file, key and the nearest valid key."""
    return parse_experiment(read_yaml(Path(path)), where=str(path))


def parse_experiment(data: object, where: str = "config") -> Experiment:
    """Validate plain data as an experiment. Raises ConfigError listing every problem at once.

    Args:
        data: what YAML gives: a dict of sections.
        where: how messages name it, such as the path of the file.

    Examples:
        >>> dataset = {"adapter": "csv", "name": "mine", "root": "data/mine", "classes": ["Fighting"]}
        >>> data = {"experiment": "mine", "dataset": dataset, "backbone": {"name": "tpn_tiny", "weights": "bundled"}}
        >>> parse_experiment(data).scoring.smooth_sigma
        2.0
        >>> parse_experiment(data | {"scoring": {"smooth_sigmas": 1, "smooth_on": "seconds"}})
        Traceback (most recent call last):
        pipeline.errors.ConfigError: config: 2 problem(s)
          scoring.smooth_on: expected one of windows, frames, none, got 'seconds'
          scoring.smooth_sigmas: unknown key; did you mean 'smooth_sigma'?
    """
    if not isinstance(data, dict):
        got = "nothing" if data is None else repr(data)[:80]
        raise ConfigError(f"{where}: expected sections, `experiment: name` and so on, got {got}")
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(item)}" for item in error.errors())
        raise ConfigError(f"{where}: {error.error_count()} problem(s)\n{problems}") from error


def _describe(item: Any, prefix: str = "") -> str:
    """One line for one pydantic error: the key and what is wrong; for an unknown key also the nearest valid one."""
    # The second part can be the tag of a union, which is no key.
    location = tuple(part for i, part in enumerate(item["loc"]) if (i, item["loc"][0], part) not in TAGGED)
    kind, facts = item["type"], item.get("ctx", {})
    key = key_of((*((prefix,) if prefix else ()), *location, *(("[key]",) if kind == "invalid_key" else ())))
    tag, kinds = ("name", HEADS) if "head" in item["loc"] else ("adapter", DATASETS)
    if kind == "union_tag_invalid":
        name = str(facts["tag"])
        (nearest,) = difflib.get_close_matches(name, kinds, n=1, cutoff=0.0)
        what = "head" if tag == "name" else tag
        return f"{key}.{tag}: no {what} {name!r}; did you mean {nearest!r}? There are {', '.join(kinds)}"
    if kind == "union_tag_not_found" and isinstance(item["input"], dict):
        return f"{key}.{tag}: is missing, expected one of {', '.join(kinds)}"
    if kind == "extra_forbidden":
        known = _keys_of(item["loc"][:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
        return f"{key}: unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    said = wording(kind, item["msg"], item["input"], facts)
    return f"{key}: {said}" if key else said  # a message on several sections names them itself


def _keys_of(location: tuple) -> list[str]:
    """Valid keys of the section at the location of a pydantic error."""
    model: Any = Run if location and location[0] in Run.model_fields else Experiment
    for part in location:
        if part in DATASETS or part in HEADS:
            model = (DATASETS | HEADS)[part]
        elif part in getattr(model, "model_fields", {}) and (
            section := inner_section(model.model_fields[part].annotation)
        ):
            model = section
    return list(getattr(model, "model_fields", {}))


def field_table(model: type[BaseModel] = Experiment, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, description) of every field, depth first; `key[]` is an entry of a list of sections."""
    rows: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        if name in ("dataset", "head"):
            for kind, section in (DATASETS if name == "dataset" else HEADS).items():
                rows += field_table(section, f"{name}({kind}).")
        elif inner := inner_section(field.annotation):
            rows += field_table(inner, f"{key}." if inner is field.annotation else f"{key}[].")
        else:
            default = "required" if field.is_required() else json.dumps(field.default, default=str)
            rows.append((key, default, field.description or ""))
    return rows
