"""Imported features train, score and are evaluated like those of our own backbone."""

from __future__ import annotations

import json
from dataclasses import replace

import luigi
import numpy as np
import pytest
import torch
from conftest import SMALL_HEADS

from cache import FeatureStore, NotCached, PlainLayout
from cache.interchange import import_npy
from pipeline.config import parse_experiment
from pipeline.config.heads import HEADS
from pipeline.data.events import read_events
from pipeline.errors import ConfigError, PipelineError
from pipeline.progress import silent
from pipeline.stages.common.manifest import build_manifest, load_manifest
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.events.events import write_run_events
from pipeline.stages.events.operating_point import configured, write_operating_point
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.scoring.score import score_split, score_video
from pipeline.stages.scoring.tables import read_scores
from pipeline.stages.training.saved_heads import load_head
from pipeline.stages.training.train import train_head
from tasks import EvaluateAll

VIDEOS = {f"n{i}": "train,Normal" for i in range(4)} | {f"f{i}": "train,Fighting" for i in range(4)}
VIDEOS |= {"t1": "test,Fighting", "t2": "test,Normal"}
CLIPS = 6  # of 16 frames, in the test videos


def i3d(video_id: str, clips: int) -> np.ndarray:
    """Ten crops of clips; a fight lights up some channels in its second half."""
    array = np.random.default_rng(sum(video_id.encode())).random((clips, 10, 32)).astype(np.float32) / 10
    array[:, :, 16:] += 1
    if "Fighting" in VIDEOS[video_id]:
        array[clips // 2 :, :, :8] += 2
    return array


@pytest.fixture
def data(nano, tmp_path, make_video) -> dict:
    """A csv data set, its features as published in two folders, and the experiment that names them."""
    lines = [f"{video_id},{video_id}.mp4,{facts}" for video_id, facts in VIDEOS.items()]
    (tmp_path / "videos.csv").write_text("video_id,path,split,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "annotations.csv").write_text("video_id,label,start_frame,end_frame\nt1,Fighting,48,96\n")
    store = FeatureStore.open(tmp_path / "cache")
    for video_id, facts in VIDEOS.items():
        make_video(f"{video_id}.mp4", frames=CLIPS * 16)
        split = facts.split(",")[0]
        (tmp_path / split).mkdir(exist_ok=True)
        np.save(tmp_path / split / f"{video_id}_i3d.npy", i3d(video_id, CLIPS))
    import_npy(store, "i3d-train", tmp_path / "train", PlainLayout(fps=10, segments=4, suffix="_i3d"))
    import_npy(store, "i3d-test", tmp_path / "test", PlainLayout(fps=10, suffix="_i3d"))
    return nano | {
        "dataset": {
            "adapter": "csv",
            "name": "mine",
            "root": str(tmp_path),
            "annotations": "annotations.csv",
            "classes": ["Fighting"],
        },
        "features": {"train": "i3d-train", "test": "i3d-test"},
        "head": {"k": 1, "p": 1, "dropout": 0.0, "lambda3": 0.0},
        "training": {"epochs": 15, "learning_rate": 0.2, "batch_bags": 8},
        "runs": {"gig": {}},
    }


@pytest.fixture
def manifest_of(tmp_path):
    def build(experiment):
        if not (tmp_path / "manifest").exists():
            build_manifest(experiment, tmp_path / "manifest")
        return load_manifest(experiment, tmp_path / "manifest")

    return build


def test_the_stages_train_and_score_imported_namespaces(data, manifest_of, tmp_path):
    experiment = parse_experiment(data)
    recipes, manifest = Recipes(experiment), manifest_of(experiment)
    assert recipes.namespace("train") == "i3d-train"
    train_head(experiment, "gig", manifest, "i3d-train", tmp_path / "head")
    score_split(experiment, "gig", manifest, "i3d-test", tmp_path / "head", tmp_path / "scores")
    scores, counts = read_scores(tmp_path / "scores", ["Fighting"])
    assert counts == {"t1": CLIPS * 16, "t2": CLIPS * 16}
    assert scores["t1"][64:].mean() > scores["t1"][:32].mean() + 0.1
    assert scores["t1"].max() > scores["t2"].max() + 0.1


def test_scores_can_be_the_mean_over_crops(data, manifest_of, tmp_path):
    experiment = parse_experiment(data | {"scoring": {"smooth_on": "none"}})
    store = FeatureStore.open(tmp_path / "cache")
    train_head(experiment, "gig", manifest_of(experiment), "i3d-train", tmp_path / "head")
    head, scoring = load_head(tmp_path / "head" / "head.safetensors"), experiment.run("gig").scoring
    crops = i3d("t1", CLIPS)
    singles = []
    for crop in range(10):
        (tmp_path / f"crop{crop}").mkdir()
        np.save(tmp_path / f"crop{crop}" / "t1.npy", crops[:, crop])
        import_npy(store, f"crop{crop}", tmp_path / f"crop{crop}", PlainLayout(fps=10))
        singles.append(score_video(store, f"crop{crop}", "t1", head, scoring))
    assert np.ptp([single.anomaly for single in singles], axis=0).max() > 1e-5
    mean = score_video(store, "i3d-test", "t1", head, scoring.model_copy(update={"views": "mean"}))
    first = score_video(store, "i3d-test", "t1", head, scoring)
    np.testing.assert_array_equal(first.frames, singles[0].frames)
    np.testing.assert_allclose(mean.frames, np.mean([single.frames for single in singles], axis=0), atol=1e-6)
    np.testing.assert_allclose(mean.windows, np.mean([single.windows for single in singles], axis=0), atol=1e-6)


def test_a_mean_over_views_of_other_frames_is_refused(data, manifest_of, tmp_path):
    experiment = parse_experiment(data | {"scoring": {"views": "mean"}})
    store = FeatureStore.open(tmp_path / "cache")
    train_head(experiment, "gig", manifest_of(experiment), "i3d-train", tmp_path / "head")
    head = load_head(tmp_path / "head" / "head.safetensors")
    with store.writer("odd", "t1", views=2, rows=1, columns=1, channels=32, frames_per_clip=2) as writer:
        for view in range(2):
            writer.append(view, np.ones((3, 1, 1, 32), np.float32), np.arange(6).reshape(3, 2) + view)
        writer.set_times(np.arange(8))
        writer.commit({})
    with pytest.raises(PipelineError, match="odd/t1: scoring.views: mean: expected views of the same frames.* view 1"):
        score_video(store, "odd", "t1", head, experiment.run("gig").scoring)


def test_scores_of_the_first_view_keep_their_recipe(data):
    first, mean = (Recipes(parse_experiment(data | {"scoring": {"views": views}})) for views in ("first", "mean"))
    assert "views" not in first.experiment.model_dump()["scoring"]
    assert (
        first.scores_digest("gig") == Recipes(parse_experiment(data)).scores_digest("gig") != mean.scores_digest("gig")
    )
    assert [recipes.experiment.run("gig").scoring.takes_reduced for recipes in (first, mean)] == [True, False]


def test_features_written_by_another_program_need_no_provenance(data, manifest_of, tmp_path):
    experiment = parse_experiment(data | {"features": {"train": "i3d-train", "test": "bare"}})
    manifest, store = manifest_of(experiment), FeatureStore.open(tmp_path / "cache")
    for entry in manifest.split("test"):
        reader = store.reader("i3d-test", entry.video_id)
        views, _, rows, columns, channels = reader.shape
        frames = reader.frames()
        shape = {
            "views": views,
            "rows": rows,
            "columns": columns,
            "channels": channels,
            "frames_per_clip": frames.shape[-1],
        }
        with store.writer("bare", entry.video_id, **shape) as writer:
            for view in range(views):
                writer.append(view, reader.features(view), frames[view])
            writer.set_times(reader.times())
            writer.commit({})
    train_head(experiment, "gig", manifest, "i3d-train", tmp_path / "head")
    score_split(experiment, "gig", manifest, "bare", tmp_path / "head", tmp_path / "scores")
    assert read_scores(tmp_path / "scores", ["Fighting"])[1] == {"t1": CLIPS * 16, "t2": CLIPS * 16}


def test_extraction_finds_imported_features_and_names_those_that_are_missing(data, manifest_of, tmp_path):
    experiment = parse_experiment(data)
    manifest, quarantine = manifest_of(experiment), Quarantine(tmp_path / "quarantine")
    report = extract_split(experiment, manifest, "test", manifest.split("test"), "i3d-test", quarantine)
    assert (report.extracted, report.cached) == ((), ("t1", "t2"))
    FeatureStore.open(tmp_path / "cache").withdraw("i3d-test", "t2")
    with pytest.raises(
        NotCached, match="i3d-test: expected imported features of 2 videos, 1 are not there: t2"
    ) as error:
        extract_split(experiment, manifest, "test", manifest.split("test"), "i3d-test", quarantine)
    assert "machine.max_quarantined: 1" in str(error.value)


def test_videos_without_features_can_be_left_out_and_come_back_when_they_are_imported(data, manifest_of, tmp_path):
    experiment = parse_experiment(data | {"machine": {"max_quarantined": 1}})
    manifest, quarantine, said = manifest_of(experiment), Quarantine(tmp_path / "quarantine"), []
    store = FeatureStore.open(tmp_path / "cache")

    def extracted():
        videos = manifest.split("test")
        return extract_split(experiment, manifest, "test", videos, "i3d-test", quarantine, say=said.append)

    store.withdraw("i3d-test", "t2")
    for _ in range(2):
        assert (extracted().cached, extracted().quarantined) == (("t1",), ("t2",))
    assert [record.reason for record in quarantine.records("test")] == ["no features in i3d-test"]
    assert said == ["t2: no features in i3d-test: left out, in quarantine"]
    import_npy(store, "i3d-test", tmp_path / "test", PlainLayout(fps=10, suffix="_i3d"))
    assert (extracted().cached, extracted().quarantined, quarantine.ids()) == (("t1", "t2"), (), [])
    for name in ("t1", "t2"):
        store.withdraw("i3d-test", name)
    with pytest.raises(NotCached, match="2 are not there"):
        extracted()


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_and_scores_pooled_features_whatever_the_order_of_videos(
    data, manifest_of, tmp_path, name, one_thread
):
    store = FeatureStore.open(tmp_path / "cache")
    for split, segments in (("train", {"segments": 4}), ("test", {})):
        folder = tmp_path / f"wide-{split}"
        folder.mkdir()
        for video_id, facts in VIDEOS.items():
            if facts.startswith(split):
                np.save(folder / f"{video_id}.npy", np.tile(i3d(video_id, CLIPS), 32))
        import_npy(store, f"wide-{split}", folder, PlainLayout(fps=10, **segments))
    assert store.reader("wide-test", "t1").shape == (10, CLIPS, 1, 1, 1024)
    head = {"name": name} | SMALL_HEADS.get(name, {})
    head |= {"k": 1} if HEADS[name].model_fields["reduction"].default == "spatial" else {}
    names = {"train": "wide-train", "test": "wide-test"}
    experiment = parse_experiment(data | {"head": head, "features": names, "training": {"epochs": 2}})
    manifest = manifest_of(experiment)
    turned = replace(manifest, videos=manifest.videos[::-1])
    for order, videos in (("a", manifest), ("b", turned)):
        train_head(experiment, "gig", videos, "wide-train", tmp_path / order)
        score_split(experiment, "gig", videos, "wide-test", tmp_path / order, tmp_path / f"scores-{order}")
    files = [(tmp_path / order / "head.safetensors").read_bytes() for order in "ab"]
    assert files[0] == files[1]
    for order in "ab":
        scores, counts = read_scores(tmp_path / f"scores-{order}", ["Fighting"])
        assert counts == {"t1": CLIPS * 16, "t2": CLIPS * 16}
        assert all(np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1 for values in scores.values())


def test_the_whole_pipeline_runs_on_imported_features(data, write_config, tmp_path):
    path = write_config(data)
    assert luigi.build([EvaluateAll(config=str(path))], local_scheduler=True, log_level="WARNING")
    (figures,) = (tmp_path / "var" / "nano").glob("evaluation-gig-*/metrics.json")
    metrics = json.loads(figures.read_text())
    assert metrics["auc"] > 0.8
    assert metrics["backbone"] == "i3d-test"


def test_events_of_imported_features_end_with_the_video_though_its_last_clip_does_not(data, manifest_of, tmp_path):
    experiment = parse_experiment(data | {"events": {"upper": 0.0, "false_alarms_per_hour": None}})
    manifest = manifest_of(experiment)
    shorter = tuple(replace(entry, packets=entry.packets - 5) for entry in manifest.videos)
    manifest = replace(manifest, videos=shorter)
    train_head(experiment, "gig", manifest, "i3d-train", tmp_path / "head")
    score_split(experiment, "gig", manifest, "i3d-test", tmp_path / "head", tmp_path / "scores")
    write_operating_point(tmp_path / "point", configured(experiment.events, manifest.classes, "imported"), {})
    write_run_events(experiment, manifest, tmp_path / "scores", tmp_path / "point", tmp_path / "events", silent)
    found = read_events(tmp_path / "events" / "events.parquet")
    assert [(event.video_id, event.end_frame) for event in found if event.class_name == "anomaly"] == [
        ("t1", CLIPS * 16 - 5),
        ("t2", CLIPS * 16 - 5),
    ]
    assert found[0].end_s == pytest.approx((CLIPS * 16 - 5) / 10)


def test_other_features_under_the_same_name_are_another_recipe(data, tmp_path):
    def digests() -> list[str]:
        recipes = Recipes(parse_experiment(data))
        return [recipes.features_digest("train"), recipes.head_digest("gig"), recipes.features_digest("test")]

    before = digests()
    np.save(tmp_path / "train" / "n1_i3d.npy", i3d("f1", CLIPS))
    store = FeatureStore.open(tmp_path / "cache")
    import_npy(store, "i3d-train", tmp_path / "train", PlainLayout(fps=10, segments=4, suffix="_i3d"))
    import_npy(store, "i3d-test", tmp_path / "test", PlainLayout(fps=10, suffix="_i3d"))  # the same again
    assert [one == other for one, other in zip(before, digests(), strict=True)] == [False, False, True]


def test_a_head_that_does_not_fit_imported_maps_is_a_clear_error(data, manifest_of, tmp_path):
    experiment = parse_experiment(data | {"head": {"k": 8, "p": 2}})
    manifest = manifest_of(experiment)
    with pytest.raises(ConfigError, match="head.k: expected at most 1, the positions of a map in i3d-train, got 8"):
        train_head(experiment, "gig", manifest, "i3d-train", tmp_path / "head")
    experiment = parse_experiment(data | {"head": {"k": 1, "p": 5}})
    with pytest.raises(ConfigError, match="head.p: at most 4, the segments of a bag, got 5"):
        train_head(experiment, "gig", manifest, "i3d-train", tmp_path / "head")
