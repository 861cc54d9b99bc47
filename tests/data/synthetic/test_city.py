"""The generated city: balanced, with consistent ground truth; classes are visible, and no place reveals one."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from places import ROOT
from small_dataset import entry

from pipeline.config import SyntheticCityDataset, load_experiment, parse_experiment
from pipeline.config.datasets import CITYSCENE_CLASSES
from pipeline.data.partition import carve_validation
from pipeline.data.synthetic.city.events import CELL, CITY_CLASSES, CITY_DISTRACTORS, MARGIN, SMALL, place_event
from pipeline.data.synthetic.city.scene import camera
from pipeline.data.synthetic.city.scripts import CityScript
from pipeline.data.synthetic.generate import CitySpec, generate
from pipeline.data.synthetic.street import SIDE
from pipeline.errors import ConfigError
from pipeline.stages.common.manifest import synthetic_spec
from pipeline.stages.common.recipes import Recipes

CONFIG = ROOT / "configs" / "synthetic_city.yaml"
NAMES = [*CITY_CLASSES, *CITY_DISTRACTORS]


@pytest.fixture(scope="module")
def scripts():
    return list(synthetic_spec(load_experiment(CONFIG).dataset).scripts())


def of(scripts, split):
    return [script for script in scripts if script.split == split]


def happening(name, number=0, start=4, end=20):
    """An event, and the place that it happens at."""
    place = camera(0, "train", number)
    return place_event(np.random.default_rng(number), name, start, end, place, bool(number % 2)), place


def drawn(event):
    """(N, SIDE, SIDE, 3) float32: the frames of an event on a plain ground of 131."""
    canvases = np.full((event.end - event.start, SIDE, SIDE, 3), 131, dtype=np.float32)
    for index, canvas in enumerate(canvases, start=event.start):
        event.draw(canvas, index)
    return canvases


def covered(event):
    """(N, SIDE, SIDE) bool: what it covers in each of its frames."""
    return (np.abs(drawn(event) - 131) > 2).any(axis=3)


def test_the_classes_are_those_of_the_paper_and_each_has_its_counterpart():
    assert tuple(CITY_CLASSES) == CITYSCENE_CLASSES == CitySpec().classes
    assert len(set(NAMES)) == 24
    with pytest.raises(ConfigError, match="Dancing"):
        CitySpec(classes=("Fighting", "Dancing"))


def test_training_videos_are_half_normal_and_trimmed_around_one_anomaly(scripts):
    train = of(scripts, "train")
    assert Counter(script.labels for script in train) == {(): 120} | {(name,): 10 for name in CITY_CLASSES}
    for script in train:
        assert 72 <= script.n_frames <= 112
        first, *others = script.events
        assert first.anomalous == bool(script.labels)
        assert not any(event.anomalous for event in others)
        assert 0.45 <= (first.end - first.start) / script.n_frames <= 0.8
    normal = Counter(script.events[0].name for script in train if not script.labels)
    assert normal == dict.fromkeys(CITY_DISTRACTORS, 10)  # as often as the anomalies that they resemble


def test_test_videos_are_untrimmed_with_one_or_two_anomalies_or_none(scripts):
    test = of(scripts, "test")
    assert len(test) == 48
    assert Counter(len(script.labels) for script in test) == {0: 12, 1: 24, 2: 12}
    assert Counter(label for script in test for label in script.labels).keys() == CITY_CLASSES.keys()
    for script in test:
        assert 240 <= script.n_frames <= 480
        spans = sorted((event.start, event.end) for event in script.events)
        assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
        assert (spans[0][0] >= 0, spans[-1][1] <= script.n_frames) == (True, True)
        anomalous = sum(event.end - event.start for event in script.events if event.anomalous)
        assert bool(script.labels) == (anomalous > 0)
        assert anomalous <= script.n_frames / 4


def test_places_of_the_splits_differ_and_give_no_class_away(scripts):
    sources = {split: {script.source for script in of(scripts, split)} for split in ("train", "test")}
    assert (len(sources["train"]), len(sources["test"])) == (40, 12)
    assert not sources["train"] & sources["test"]
    assert not np.array_equal(camera(0, "train", 3).background, camera(0, "test", 3).background)
    kinds = {}
    for source in sources["train"]:
        seen = [script for script in of(scripts, "train") if script.source == source]
        assert Counter(bool(script.labels) for script in seen) == {False: 3, True: 3}
        for script in seen:
            for label in script.labels:
                kinds.setdefault(label, set()).add(camera(0, "train", script.shot_by).kind)
    assert all(len(places) >= 3 for places in kinds.values())


def test_a_validation_split_holds_every_class_and_whole_cameras(scripts):
    train = [
        dataclasses.replace(entry(script.video_id, "train", *script.labels), source=script.source)
        for script in of(scripts, "train")
    ]
    chosen = set(carve_validation(train, 0.2, 0))
    assert Counter(label for entry in train if entry.video_id in chosen for label in entry.labels) == dict.fromkeys(
        CITY_CLASSES, 2
    )
    assert not {e.source for e in train if e.video_id in chosen} & {e.source for e in train if e.video_id not in chosen}


@pytest.mark.parametrize("name", NAMES)
def test_an_event_is_seen_when_it_happens_and_only_then(name):
    event, _ = happening(name, start=2, end=5)
    script = CityScript("v", "train", 7, (event,), 100, "camera", 0, 0)
    pairs = zip(script.pictures(), dataclasses.replace(script, events=()).pictures(), strict=True)
    assert [not np.array_equal(one, other) for one, other in pairs] == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("name", CITY_CLASSES)
def test_boxes_hold_their_anomaly_and_little_else(name):
    for number in range(8):
        event, _ = happening(name, number, end=40)
        rows, columns = [], []
        for index, mask in enumerate(covered(event), start=event.start):
            x0, y0, x1, y1 = event.box_at(index)
            y, x = np.nonzero(mask)
            assert (x.min() + 1 >= x0, x.max() <= x1 + 1) == (True, True)
            assert (y.min() + 1 >= y0, y.max() <= y1 + 1) == (True, True)
            rows.append((y.max() - y.min()) / (y1 - y0))
            columns.append((x.max() - x.min()) / (x1 - x0))
        assert max(rows) > 0.65
        assert max(columns) > 0.65


@pytest.mark.parametrize("name", CITY_CLASSES)
def test_anomalies_lie_within_the_crop(scripts, name):
    found = [event for script in scripts for event in script.events if event.name == name]
    for event in found:
        for index in (event.start, event.end - 1):
            x0, y0, x1, y1 = event.box_at(index)
            assert (x0 >= MARGIN, x1 <= SIDE - MARGIN) == (True, True)
            assert (y0 >= MARGIN, y1 <= SIDE - MARGIN) == (True, True)


def cells(mask):
    """The cells of the 7 x 7 grid of the centre crop that hold some of a mask; nothing may lie outside."""
    inner = mask[MARGIN : SIDE - MARGIN, MARGIN : SIDE - MARGIN]
    assert inner.sum() == mask.sum()
    return int(inner.reshape(7, CELL, 7, CELL).any(axis=(1, 3)).sum())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("number", range(6))
def test_small_ones_cover_at_most_two_cells(name, number):
    for kind in (name, CITY_CLASSES[name].distractor):
        assert 1 <= cells(covered(happening(kind, number, end=40)[0]).any(axis=0)) <= 2


def test_four_anomalies_are_small_and_the_others_are_not():
    assert SMALL == ("Graffiti", "Shooting", "Smoking", "Stealing")
    assert cells(covered(happening("Crowd")[0]).any(axis=0)) > 4


@pytest.mark.parametrize(("anomaly", "counterpart"), [("Fighting", "Dancing"), ("Stealing", "Handing")])
def test_some_differ_from_normal_in_motion_only(anomaly, counterpart):
    """Over many events single frames look alike; from frame to frame the anomaly changes by much more."""
    means, steps = {}, {}
    place, _ = happening(anomaly, end=44)
    x0, y0, x1, y1 = (int(edge) for edge in place.box_at(24))
    for name in (anomaly, counterpart):
        events = [drawn(dataclasses.replace(place, name=name, seed=seed))[:, y0:y1, x0:x1] for seed in range(12)]
        means[name] = np.mean(events, axis=(0, 1))
        steps[name] = np.mean([np.abs(np.diff(event, axis=0)).mean() for event in events])
    apart = np.abs(means[anomaly] - means[counterpart]).mean()
    assert apart < 0.1 * np.abs(means[anomaly] - 131).mean()
    assert steps[anomaly] > 1.3 * steps[counterpart]


def test_the_same_specification_gives_the_same_bytes_whatever_the_processes(tmp_path):
    spec = CitySpec(3, ("Smoking", "Crowd"), 1, 1, 1, 1, (10, 12), (24, 30), train_cameras=2, test_cameras=1)
    generate(spec, tmp_path / "one", processes=1)
    generate(spec, tmp_path / "two", processes=2)
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(names) == 5 + 3
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


SMALL_CITY = {
    "adapter": "synthetic_city",
    "name": "city",
    "classes": ["Smoking", "Crowd", "Robbery"],
    **{"train_normal": 6, "train_per_class": 2, "test_normal": 2, "test_anomalous": 3},
    **{"train_frames": [10, 12], "test_frames": [24, 30], "train_cameras": 3, "test_cameras": 3},
}
OTHER = {
    "name": "other",
    "seed": 1,
    "classes": ["Smoking", "Crowd"],
    **{"train_normal": 5, "train_per_class": 3, "test_normal": 1, "test_anomalous": 4},
    **{"train_frames": [9, 12], "test_frames": [24, 31], "train_cameras": 2, "test_cameras": 2, "size": 128, "fps": 10},
}


@pytest.mark.parametrize("key", sorted(set(SyntheticCityDataset.model_fields) - {"adapter"}))
def test_every_setting_of_the_city_binds(key):
    recipes, scripts = [], []
    for dataset in (SMALL_CITY, SMALL_CITY | {key: OTHER[key]}):
        data = {"experiment": "e", "dataset": dataset, "backbone": {"name": "tpn_tiny", "weights": "random"}}
        experiment = parse_experiment(data)
        recipes.append(Recipes(experiment))
        spec = synthetic_spec(experiment.dataset)
        scripts.append([*spec.scripts(), (spec.size, spec.fps)])
    assert recipes[0].manifest_digest != recipes[1].manifest_digest
    assert recipes[0].namespace("test") != recipes[1].namespace("test")
    assert (scripts[0] != scripts[1]) == (key != "name")
