"""An ablation: one experiment, many settings of it, some seeds. The whole file is checked before anything runs.

    name: gig_parts
    base: configs/fixture.yaml       # every setting is this experiment with some changes
    seeds: [0, 1, 2]                 # training.seed of every setting
    list:                            # settings by name: sections and what changes in them
      gig: {}
      mean_pooling: {head: {reduction: mean}}
    grid:                            # every setting of the list with every combination of these
      head.lambda3: [0.0, 0.1]

A setting can change what a run can change, and how features are made: backbone, pictures, sampling. Each different way
to make them is extracted once. Heads are trained on frozen features; a section `finetune` of the base is ignored.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from pipeline.config import Experiment, Run, digest, parse_experiment
from pipeline.config.published import presets_spelled_out
from pipeline.config.section import NAME_PATTERN, Section, UserPath
from pipeline.config.text import read_yaml
from pipeline.config.wording import key_of, wording
from pipeline.errors import ConfigError

__all__ = ["Ablation", "Plan", "Setting", "load_ablation"]

SAMPLING = ("train_sampling", "test_sampling")
MAKING = ("backbone", "decoding", "preprocess", "storage")
"""How maps are made, besides the clips of which they are made. Where settings differ in it, the table says how."""
FEATURES = (*MAKING, *SAMPLING)
SECTIONS = (*Run.model_fields, *FEATURES)


class Ablation(Section):
    """The file."""

    name: str = Field(
        pattern=NAME_PATTERN, description="Results lie in <output>/<experiment>/ablation-<name>-<digest>/."
    )
    base: UserPath = Field(description="The experiment that every setting changes; its own runs are ignored.")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="training.seed of every setting.")
    list: dict[str, dict[str, dict[str, Any]]] = Field(
        default={"base": {}}, min_length=1, description="Settings by name."
    )
    grid: dict[str, tuple[Any, ...]] = Field(
        default={}, description="Values by dotted field; every combination is applied to every setting of the list."
    )

    @field_validator("list", mode="before")
    @classmethod
    def _presets(cls, settings: Any) -> Any:
        return (
            {name: presets_spelled_out(sections) for name, sections in settings.items()}
            if isinstance(settings, dict)
            else settings
        )


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Attributes:
        name: its name in the list, with its values of the grid.
        experiment: has its features, and the runs of all settings on these features.
        runs: names of the setting's runs in that experiment, one per seed.
    """

    name: str
    experiment: Experiment
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """An ablation with its settings resolved.

    Attributes:
        ablation: the file.
        settings: the lines of the table.
    """

    ablation: Ablation
    settings: tuple[Setting, ...]

    @property
    def experiments(self) -> list[Experiment]:
        """The different experiments, one per way to make features; the features of each are made once."""
        return list({id(setting.experiment): setting.experiment for setting in self.settings}.values())

    @property
    def varied(self) -> tuple[str, ...]:
        """The fields `<section>.<field>` in which the backbone, its pictures or the storage differ among settings."""
        fields = (
            f"{section}.{field}"
            for section in MAKING
            for field in type(getattr(self.experiments[0], section)).model_fields
        )
        return tuple(key for key in fields if len({repr(_value(one, key)) for one in self.experiments}) > 1)

    def made_with(self, setting: Setting) -> dict[str, Any]:
        """The values of the fields in `varied` of one setting."""
        return {key: _value(setting.experiment, key) for key in self.varied}


def load_ablation(path: Path) -> Plan:
    """Read an ablation and resolve every setting. Raises ConfigError listing every problem at once."""
    data = _read(path)
    for key in data:
        if key not in Ablation.model_fields:
            near = difflib.get_close_matches(str(key), Ablation.model_fields, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: {key}: unknown key; did you mean {near!r}?")
    try:
        ablation = Ablation.model_validate(data)
    except ValidationError as error:
        lines = "\n".join(
            f"  {key_of(item['loc'])}: {wording(item['type'], item['msg'], item['input'], item.get('ctx', {}))}"
            for item in error.errors()
        )
        raise ConfigError(f"{path}: {error.error_count()} problem(s)\n{lines}") from error
    base = _read(ablation.base)
    changes = _expand(path, ablation)
    problems, keys = {}, {}
    for name, sections in changes.items():
        try:
            experiment = _experiment(base, [_with_seed(sections, seed) for seed in ablation.seeds])
            _check_imported(experiment, sections)
            keys[name] = digest(*(getattr(experiment, section) for section in FEATURES))
        except ConfigError as error:
            problems[name] = str(error).splitlines()[-1].strip()
    if len(problems) == len(changes) > 1 and len(set(problems.values())) == 1:
        raise ConfigError(f"{path}: no setting is valid; in {ablation.base}: {problems.popitem()[1]}")
    if problems:
        lines = "".join(f"\n  {name}: {problem}" for name, problem in problems.items())
        raise ConfigError(f"{path}: {len(problems)} of {len(changes)} settings are not valid{lines}")
    return Plan(ablation, _settings(base, ablation, changes, keys))


def _settings(
    base: dict, ablation: Ablation, changes: Mapping[str, dict], keys: Mapping[str, str]
) -> tuple[Setting, ...]:
    """The settings; those whose features are made in the same way, which have the same key, share an experiment."""
    groups: dict[str, list[dict]] = {}
    for name, sections in changes.items():
        groups.setdefault(keys[name], []).extend(_with_seed(sections, seed) for seed in ablation.seeds)
    experiments = {key: _experiment(base, members) for key, members in groups.items()}
    return tuple(
        Setting(
            name,
            experiments[keys[name]],
            tuple(_run_name(_with_seed(sections, seed)) for seed in ablation.seeds),
        )
        for name, sections in changes.items()
    )


def _experiment(base: dict, members: list[dict]) -> Experiment:
    """The base with one run per member, and the features that all members have in common."""
    data = {key: value for key, value in base.items() if key not in ("runs", "finetune")}
    if isinstance(expected := data.get("expected"), dict):  # its metrics are of the runs of the base
        data["expected"] = {key: value for key, value in expected.items() if key != "metrics"}
    for section in FEATURES:
        if section in members[0]:
            data[section] = (data.get(section) or {}) | members[0][section]
    runs = {_run_name(member): {s: v for s, v in member.items() if s not in FEATURES} for member in members}
    return parse_experiment(data | {"runs": runs}, where="setting")


def _run_name(sections: dict) -> str:
    """A name made from the content, so that settings of the same content share their work, also across ablations."""
    return f"ablation-{digest({s: v for s, v in sections.items() if s not in FEATURES})}"


def _check_imported(experiment: Experiment, sections: Mapping[str, dict]) -> None:
    """Raise ConfigError for a setting that changes how features are made, if features are imported."""
    imported = [split for split, name in experiment.features.model_dump().items() if name]
    for section in MAKING:
        if section in sections and imported:
            named = ", ".join(f"features.{split}" for split in imported)
            raise ConfigError(f"{section}: decides nothing where {named} names imported features")


def _value(experiment: Experiment, key: str) -> Any:
    section, _, field = key.partition(".")
    return getattr(getattr(experiment, section), field)


def _with_seed(sections: dict, seed: int) -> dict:
    return sections | {"training": sections.get("training", {}) | {"seed": seed}}


def _expand(path: Path, ablation: Ablation) -> dict[str, dict[str, dict[str, Any]]]:
    """The changes of every setting, section by section: each entry of the list with each combination of the grid."""
    _check_names(path, ablation)
    varied = [key for key, values in ablation.grid.items() if len(values) > 1]
    settings = {}
    for name, changes in ablation.list.items():
        for values in itertools.product(*ablation.grid.values()):
            point = dict(zip(ablation.grid, values, strict=True))
            sections = {section: dict(fields) for section, fields in changes.items()}
            for key, value in point.items():
                section, _, field = key.partition(".")
                sections.setdefault(section, {})[field] = value
            title = ", ".join([name, *(f"{key.partition('.')[2]}={point[key]}" for key in varied)])
            settings[title] = sections
    return settings


def _check_names(path: Path, ablation: Ablation) -> None:
    """Raise ConfigError for an unknown section, a wrong key of the grid, and a seed in a setting."""
    for name, changes in ablation.list.items():
        for section in changes:
            _check_section(f"{path}: list.{name}", section)
    for key in ablation.grid:
        _check_section(f"{path}: grid.{key}", key.partition(".")[0])
    for key, values in ablation.grid.items():
        if key.count(".") != 1 or not values:
            raise ConfigError(f"{path}: grid.{key}: expected <section>.<field> and at least one value")
        if key == "training.seed":
            raise ConfigError(f"{path}: grid.{key}: seeds are no settings; give them as `seeds`")
    for name, changes in ablation.list.items():
        if "seed" in changes.get("training", {}):
            raise ConfigError(f"{path}: list.{name}: seeds are no settings; give them as `seeds`")


def _check_section(where: str, section: str) -> None:
    if section not in SECTIONS:
        (nearest,) = difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.0)
        known = ", ".join(SECTIONS)
        raise ConfigError(f"{where}: no section {section!r}; did you mean {nearest!r}? There are {known}")


def _read(path: Path) -> dict:
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys with values, got {'nothing' if data is None else repr(data)[:80]}")
    return data
