"""Which parts of a published data set each digest depends on, and which files the listing follows."""

from __future__ import annotations

import os

import numpy as np
import pytest
from mock_datasets import FRAMES, LISTS, MOCKS

from pipeline.config import field_table, parse_experiment
from pipeline.config.datasets import DATASETS
from pipeline.data.datasets import build, listing
from pipeline.stages.common.recipes import Recipes


def digests(nano: dict, dataset: dict) -> dict[str, str]:
    recipes = Recipes(parse_experiment(nano | {"dataset": dataset}))
    return {"files": recipes.files_digest, "labels": recipes.labels_digest, "all": recipes.manifest_digest}


FILES, LABELS, ALL = {"files", "labels", "all"}, {"labels", "all"}, {"all"}
FIELDS = {
    ("ucf_crime", "name"): ("other", FILES),
    ("ucf_crime", "root"): ("elsewhere", FILES),
    ("ucf_crime", "train_list"): ("shorter.txt", FILES),
    ("ucf_crime", "annotations"): ("changed.txt", ALL),
    ("ucf_crime", "classes"): (["Vandalism", "Abuse"], LABELS),
    ("ucf_crime", "ignored_folders"): (["Normal_Videos_for_Event_Recognition", "extra"], ALL),
    ("xd_violence", "name"): ("other", FILES),
    ("xd_violence", "root"): ("elsewhere", FILES),
    ("xd_violence", "train"): ("train/1-1004", FILES),
    ("xd_violence", "test"): ("train/2805-3319", FILES),
    ("xd_violence", "annotations"): ("changed.txt", ALL),
    ("xd_violence", "class_annotations"): ("changed.txt", ALL),
    ("xd_violence", "classes"): (["Shooting", "Fighting", "Riot", "Abuse", "CarAccident", "Explosion"], LABELS),
    ("shanghaitech", "name"): ("other", FILES),
    ("shanghaitech", "root"): ("elsewhere", FILES),
    ("shanghaitech", "train_list"): ("shorter.txt", FILES),
    ("shanghaitech", "test_list"): ("changed.txt", ALL),
    ("shanghaitech", "masks"): ("other_masks", ALL),
    ("shanghaitech", "classes"): (["Abnormal"], LABELS),
    ("cityscene", "name"): ("other", FILES),
    ("cityscene", "root"): ("elsewhere", FILES),
    ("cityscene", "train"): ("train/Fighting", FILES),
    ("cityscene", "test"): ("test/deeper", FILES),
    ("cityscene", "annotations"): ("changed.txt", ALL),
    ("cityscene", "classes"): (["Robbery", "Fighting"], LABELS),
} | {(name, "frame_counts"): ("counts.csv", FILES) for name in MOCKS}


def test_every_field_of_the_published_data_sets_has_its_case():
    keys = {key for key, _, _ in field_table() if key.startswith(tuple(f"dataset({name})" for name in MOCKS))}
    assert keys == {f"dataset({a}).{f}" for a, f in FIELDS} | {f"dataset({name}).adapter" for name in MOCKS}
    assert set(MOCKS) | {"csv", "synthetic", "synthetic_city"} == set(DATASETS)


@pytest.mark.parametrize(("adapter", "field"), FIELDS)
def test_a_field_moves_exactly_what_depends_on_it(mock, nano, adapter, field):
    """Features depend on files only, heads on the labels of training videos too, metrics on everything."""
    dataset = mock(adapter)
    (dataset.root / "elsewhere").mkdir()
    (dataset.root / "changed.txt").write_text((dataset.root / LISTS[adapter]).read_text() + "\n")
    if hasattr(dataset, "train_list"):
        text = (dataset.root / dataset.train_list).read_text()
        (dataset.root / "shorter.txt").write_text(text.split("\n", 1)[1])
    value, moved = FIELDS[adapter, field]
    plain = dataset.model_dump(mode="json")
    before = digests(nano, plain)
    after = digests(nano, plain | {field: str(dataset.root / value) if field == "root" else value})
    assert {name for name in before if before[name] != after[name]} == moved


@pytest.mark.parametrize("adapter", MOCKS)
def test_corrected_test_annotations_train_nothing_anew(mock, nano, adapter):
    dataset = mock(adapter)
    plain = dataset.model_dump(mode="json")
    before = digests(nano, plain)
    if adapter == "shanghaitech":
        np.save(dataset.root / "testing/test_frame_mask/01_0015.npy", np.ones(FRAMES))
    else:
        path = dataset.root / LISTS[adapter]
        path.write_text(path.read_text() + "\n")
    after = digests(nano, plain)
    assert {name for name in before if before[name] != after[name]} == {"all"}


@pytest.mark.parametrize("adapter", MOCKS)
def test_the_listing_follows_the_files(mock, adapter):
    dataset = mock(adapter)
    before = listing(dataset)
    assert [row[0] for row in before] == [v.video_id for v in build(dataset).videos]
    assert all(row[3] > 0 for row in before)
    first = dataset.root / before[0][2]
    os.utime(next(first.iterdir()) if first.is_dir() else first, ns=(2**62, 2**62))
    after = listing(dataset)
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [0]
