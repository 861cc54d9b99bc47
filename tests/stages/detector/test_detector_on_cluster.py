"""A detector on a dask cluster: the scores of this machine, and a bad file costs its own table only."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import NANO
from packs import outputs_of

from pipeline.config import parse_experiment
from pipeline.config.machine import Machine
from pipeline.data.events import read_events
from pipeline.errors import DetectorError, PipelineError
from pipeline.stages.detector import on_cluster
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.on_cluster import DetectorOrder, expected_of, some_files
from pipeline.stages.detector.packing import pack_detector
from pipeline.stages.detector.scoring import score_with_detector
from pipeline.stages.scoring.inputs import find_videos
from pipeline.stages.scoring.video_scores import table_facts

pytest.importorskip("distributed")


@pytest.fixture
def night(tmp_path):
    """A detector file."""
    paths = {"output": str(tmp_path / "var"), "cache": str(tmp_path / "cache")}
    experiment = parse_experiment(copy.deepcopy(NANO) | {"head": {}, "runs": {"gig": {}}, "paths": paths})
    pack_detector(outputs_of(experiment, tmp_path / "run"), tmp_path / "night.safetensors")
    return tmp_path / "night.safetensors"


def test_a_worker_tells_which_detector_it_has_and_what_it_does_not_reach(night, make_video, tmp_path):
    path = make_video("a.mp4")
    order = DetectorOrder(str(night), None, {"device": "cpu"}, some_files([path]))
    place = order(_around())
    detector = Detector.load(night)
    assert expected_of(detector).items() <= place.facts().items()
    assert place.facts()["videos"] == "reached"
    path.write_bytes(b"other")
    assert "has 5 bytes in place of" in place.facts()["videos"]
    path.unlink()
    assert place.facts()["videos"] == f"{path} is not there"
    with pytest.raises(DetectorError):
        DetectorOrder(str(tmp_path / "none.safetensors"), None, {}, ())(_around())


def test_commands_at_once_have_tasks_of_their_own(night, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(on_cluster, "cluster_of", lambda *rest: nullcontext())
    monkeypatch.setattr(
        on_cluster, "run_tasks", lambda found, order, expected, tasks, **more: given.extend(tasks) or []
    )
    detector = Detector.load(night)
    for inbox in ("one", "two"):
        with on_cluster.cluster_scoring(detector, DetectorOrder(str(night), None, {}, ()), print) as score:
            assert list(score([("0001.mp4", tmp_path / inbox / "0001.mp4")])) == []
    assert len({task.argument for task in given}) == len({task.key for task in given}) == 2


def test_objects_of_a_storage_are_refused_before_a_cluster_is_asked(night, tmp_path):
    import fsspec

    storage = fsspec.filesystem("memory")
    storage.pipe("/cluster/a.mp4", b"a")
    detector = Detector.load(night, machine=Machine(device="cpu", engine="dask"))
    try:
        with pytest.raises(PipelineError, match="expected files and folders that all workers reach"):
            score_with_detector(detector, find_videos(["memory://cluster"]).videos, tmp_path / "out")
    finally:
        storage.rm("/cluster", recursive=True)


@pytest.mark.slow
def test_the_workers_give_the_scores_of_this_machine(night, make_video, tmp_path):
    for number in range(2):
        make_video(f"inbox/{number}.mp4", frames=20 + number)
    (tmp_path / "inbox" / "bad.mp4").write_text("no video")
    videos = find_videos([str(tmp_path / "inbox")]).videos
    here = score_with_detector(Detector.load(night, machine=Machine(device="cpu")), videos, tmp_path / "here")
    said: list[str] = []
    machine = Machine(device="cpu", engine="dask", cluster_workers=1, decode_workers=1)
    there = score_with_detector(Detector.load(night, machine=machine), videos, tmp_path / "there", say=said.append)
    assert any("working on the dask cluster tcp://" in text for text in said)
    assert (sorted(there.scored), list(there.failed)) == (sorted(here.scored), list(here.failed))
    for one, other in zip(here.tables, there.tables, strict=True):
        local, remote = pq.read_table(one), pq.read_table(other)
        assert local.schema.equals(remote.schema)
        for name in local.column_names:  # other videos in a batch can round differently
            np.testing.assert_allclose(local[name].to_numpy(), remote[name].to_numpy(), atol=1e-6)
        keys = ("bytes", "sha256", "path")
        sources = [table_facts(path)["source"] for path in (one, other)]
        assert [sources[0][key] for key in keys] == [sources[1][key] for key in keys]
    assert len(read_events(tmp_path / "there" / "events.parquet")) == len(
        read_events(tmp_path / "here" / "events.parquet")
    )


def _around():
    from pipeline.cluster import Surroundings

    return Surroundings("w", 1, 1, False, lambda message: None)
