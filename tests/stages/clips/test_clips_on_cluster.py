"""Clips that workers of a cluster cut are those that are cut here."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import cluster, on_dask
from small_videos import write_video

from pipeline.data.events import Event
from pipeline.stages.clips.clips import make_clips

pytest.importorskip("distributed")


@pytest.mark.slow
def test_clips_equal_those_that_are_cut_here(experiment, tmp_path):
    files = {name: tmp_path / f"{name}.mp4" for name in ("good", "other", "broken")}
    for name in ("good", "other"):
        write_video(files[name], np.arange(40) / 25)
    files["broken"].write_bytes(b"no video at all")
    events = [
        Event(name, "", "Fighting", start / 25, (start + 4) / 25, start, start + 4, (start + 1) / 25, 0.9, 0.5)
        for name, start in (("good", 5), ("good", 20), ("other", 0), ("broken", 0), ("other", 90))
    ]
    here = make_clips(events, files, tmp_path / "here")
    said = []
    with cluster() as local:
        there = make_clips(
            events,
            files,
            tmp_path / "there",
            say=said.append,
            experiment=on_dask(experiment, scheduler=local.scheduler_address),
        )
    assert there.failed == here.failed
    assert set(there.failed) == {"broken", "other"}
    made = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert made == sorted(
        path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*") if path.is_file()
    )
    for name in made:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name
