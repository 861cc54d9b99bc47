"""A changed setting changes the names of the outputs that depend on it, and of no others."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Scoring, digest, parse_experiment
from pipeline.config.features import Decoding
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.errors import DecodeError
from pipeline.stages.common.recipes import VERSIONS, Recipes


def digests(data: dict) -> dict[str, str]:
    recipes = Recipes(parse_experiment(data))
    return {
        "manifest": recipes.manifest_digest,
        "train": recipes.features_digest("train"),
        "test": recipes.features_digest("test"),
        "head": recipes.head_digest("gig"),
        "scores": recipes.scores_digest("gig"),
        "evaluation": recipes.evaluation_digest("gig"),
        "summary": recipes.summary_digest,
        "operating_point": recipes.operating_point_digest("gig"),
        "events": recipes.events_digest("gig"),
    }


LISTS = {"operating_point", "events"}
DOWNSTREAM = {
    "manifest": {"manifest", "train", "test", "head", "scores", "evaluation", "summary"} | LISTS,
    "backbone": {"train", "test", "head", "scores", "evaluation", "summary"} | LISTS,
    "train": {"train", "head", "scores", "evaluation", "summary"} | LISTS,
    "test": {"test", "scores", "evaluation", "summary"} | LISTS,
    "head": {"head", "scores", "evaluation", "summary"} | LISTS,
    "scores": {"scores", "evaluation", "summary"} | LISTS,
    "lists": {"evaluation", "summary"} | LISTS,  # event metrics are among the metrics
    "evaluation": {"evaluation", "summary"},
    "machine": set(),
}


@pytest.mark.parametrize(
    ("section", "key", "value", "depends"),
    [
        ("dataset", "seed", 4, "manifest"),
        ("dataset", "train_normal", 3, "manifest"),
        ("backbone", "seed", 1, "machine"),  # matters only to random weights
        ("preprocess", "short_side", 240, "backbone"),
        ("decoding", "keep_share", 0.5, "backbone"),
        ("decoding", "max_megapixels", 128.0, "machine"),
        ("storage", "dtype", "float32", "backbone"),
        ("train_sampling", "segments", 5, "train"),
        ("train_sampling", "interval_frames", 2, "train"),
        ("train_sampling", "views", 2, "train"),
        ("train_sampling", "seed", 1, "train"),
        ("test_sampling", "stride_frames", 3, "test"),
        ("head", "k", 9, "head"),
        ("head", "lambda3", 0.2, "head"),
        ("head", "standardize", False, "head"),
        ("training", "epochs", 4, "head"),
        ("training", "permute_labels_seed", 1, "head"),
        ("selection", "train_videos", 4, "head"),
        ("scoring", "smooth_sigma", 1.0, "scores"),
        ("scoring", "cue", "running", "scores"),
        ("evaluation", "threshold", 0.4, "evaluation"),
        ("events", "false_alarms_per_hour", 2.0, "lists"),
        ("events", "by_class", {"Fighting": {"upper": 0.9}}, "lists"),
        ("machine", "batch_clips", 4, "machine"),
        ("machine", "shards", 3, "machine"),
    ],
)
def test_a_setting_moves_exactly_what_depends_on_it(nano, section, key, value, depends):
    changed = copy.deepcopy(nano)
    changed.setdefault(section, {})[key] = value
    before, after = digests(nano), digests(changed)
    assert {name for name in before if before[name] != after[name]} == DOWNSTREAM[depends]


def test_reductions_of_some_training_videos_are_told_apart_by_number_and_draw(nano):
    def found(**settings: object) -> list[str]:
        recipes = Recipes(parse_experiment(nano | settings))
        return [recipes.reduced_digest("gig", split) for split in ("train", "test")]

    every, few = {"train_videos": None}, {"train_videos": 4}
    assert found() == found(selection=every) == found(training={"seed": 1})
    others = [found(), found(selection=few), found(selection={"train_videos": 5})]
    others.append(found(selection=few, training={"seed": 1}))
    assert all(len({one[split] for one in others}) == 4 for split in (0, 1))


@pytest.mark.parametrize("split", ["train", "test"])
def test_thresholds_that_imported_features_keep_fixed_are_not_those_chosen_on_extracted_ones(nano, tmp_path, split):
    nano["paths"] = {"cache": str(tmp_path / "cache")}
    extracted, imported = (parse_experiment(nano | {"features": named}) for named in ({}, {split: "elsewhere"}))
    assert Recipes(extracted).operating_point_digest("gig") != Recipes(imported).operating_point_digest("gig")


def test_outputs_of_a_configuration_that_names_no_events_are_called_as_before_that_section_came(nano, monkeypatch):
    """The digests are those that the version before the section computed for this configuration."""
    versions = {"manifest": 4, "features": 3, "head": 3, "scores": 3}
    for stage, version in versions.items():
        monkeypatch.setitem(VERSIONS, stage, version)
    with_maps = digests(nano)["scores"]
    # Relation maps, which came later too, are kept of generated data alone.
    monkeypatch.setattr("pipeline.stages.common.digests.places_known", lambda experiment: False)
    found = digests(nano)
    assert found["scores"] != with_maps
    assert {name: found[name] for name in ("manifest", "train", "test", "head", "scores")} == {
        "manifest": "248580f8",
        "train": "9c588cd2",
        "test": "f1d4071b",
        "head": "3a819249",
        "scores": "5af87b4e",
    }


def test_the_cue_of_the_whole_video_named_or_not_leaves_outputs_as_they_were_called_before(nano):
    assert digest(Scoring().deciding()) == digest({"smooth_sigma": 2.0, "smooth_on": "windows"})
    assert digests(nano | {"scoring": {"cue": "video"}}) == digests(nano)


def test_a_limit_on_pixels_moves_no_feature_but_has_refused_videos_tried_again(nano):
    assert digest(Decoding().deciding()) == digest(
        {"on_damage": "keep", "keep_share": 0.9}
    )  # as it was before there was one
    assert Decoding().max_pixels == MAX_PIXELS
    before = Recipes(parse_experiment(nano))
    after = Recipes(parse_experiment(nano | {"decoding": {"max_megapixels": 128}}))
    assert before.namespace("train") == after.namespace("train")
    assert before.quarantine.folder != after.quarantine.folder  # which ExtractShard asks for the videos that it lacks


def test_scores_that_name_videos_in_quarantine_are_not_taken_for_those_that_do_not(nano):
    recipes = Recipes(parse_experiment(nano))
    before = recipes.scores_digest("gig")
    recipes.quarantine.add("t1", "t1.mp4", "test", DecodeError("damaged"))
    parts = recipes.head_digest("gig"), recipes._usable_digest("test"), Scoring().deciding()
    without_names = digest(VERSIONS["scores"], *parts, "relations")
    assert recipes.scores_digest("gig") not in (before, without_names)
    recipes.quarantine.clear()
    assert recipes.scores_digest("gig") == before


def test_a_run_moves_only_the_summary(nano):
    changed = copy.deepcopy(nano)
    changed["runs"]["other"] = {"head": {"k": 4}}
    before, after = digests(nano), digests(changed)
    assert {name for name in before if before[name] != after[name]} == {"summary"}


def test_a_finetune_setting_moves_the_tuned_results_only(nano):
    def places(**changes: object) -> tuple[dict[str, str], list[str]]:
        recipes = Recipes(parse_experiment(nano | {"finetune": {"enabled": True} | changes}))
        tuned = recipes.finetuned
        own = [
            recipes.finetune_folder,
            tuned.scores_folder("gig"),
            tuned.evaluation_folder("gig"),
            tuned.namespace("test"),
        ]
        return {**digests(nano | {"finetune": {"enabled": True} | changes})}, [str(path) for path in own]

    (frozen, tuned), (same, other) = places(), places(epochs=3)
    assert {name for name in frozen if frozen[name] != same[name]} == {"summary"}
    assert not set(tuned) & set(other)
    assert not {Path(path).name for path in tuned} & {Path(path).name for path in map(str, _folders(nano))}


def _folders(nano: dict) -> list[Path]:
    recipes = Recipes(parse_experiment(nano))
    return [
        recipes.head_folder("gig"),
        recipes.scores_folder("gig"),
        recipes.evaluation_folder("gig"),
        Path(recipes.namespace("test")),
    ]


def test_what_is_upstream_of_the_frozen_head_is_upstream_of_the_tuned_backbone(nano):
    tuned = nano | {"finetune": {"enabled": True}}
    before = Recipes(parse_experiment(tuned)).finetune_digest
    for section, key, value, moves in (
        ("train_sampling", "segments", 5, True),
        ("head", "k", 9, True),
        ("training", "epochs", 4, True),
        ("test_sampling", "stride_frames", 3, False),
        ("scoring", "smooth_sigma", 1.0, False),
        ("machine", "finetune_bags", 4, False),
    ):
        changed = tuned | {section: {**tuned.get(section, {}), key: value}}
        assert (Recipes(parse_experiment(changed)).finetune_digest != before) == moves, section


def test_random_weights_follow_their_seed(nano):
    nano["backbone"] = {"name": "tpn_tiny", "weights": "random", "seed": 0}
    before = digests(nano)
    nano["backbone"]["seed"] = 1
    assert digests(nano)["train"] != before["train"]


def test_a_changed_video_file_moves_a_csv_data_set(nano, tmp_path, make_video):
    path = make_video("data/a.mp4")
    (tmp_path / "data" / "videos.csv").write_text("video_id,path,split,label\na,a.mp4,train,Normal\n")
    nano["dataset"] = {"adapter": "csv", "name": "mine", "root": str(tmp_path / "data"), "classes": ["Fighting"]}
    before = digests(nano)
    os.utime(path, ns=(1, 1))
    assert digests(nano)["manifest"] != before["manifest"]


def test_recipes_and_tasks_load_no_torch():
    code = (
        "import sys, tasks, pipeline.stages.common.recipes; "
        "sys.exit('torch' in sys.modules or 'mmaction' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
