"""Score tables of any system, a video at a time, with the time of every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from cache.names import escape
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.events.videos import KnownVideos, open_scores
from pipeline.stages.scoring.score_form import ScoreForm

SCORES = np.array([0.1, 0.2, 0.9, 0.3])
TIMES = np.array([0.0, 0.1, 0.5, 0.6])


def table(**columns: np.ndarray) -> pa.Table:
    return pa.table({"frame": np.arange(len(SCORES))} | columns)


def one(source: Path, classes=(), known=None, form=None):
    [video] = open_scores(source, classes, known, form).videos
    return video


def test_a_folder_of_tables_needs_no_list_of_videos(tmp_path):
    for video_id in ("a.mp4", "Cam 1"):
        pq.write_table(table(score=SCORES, time_s=TIMES), tmp_path / f"{escape(video_id)}.parquet")
    pc.write_csv(table(score=SCORES, time_s=TIMES), tmp_path / "plain.csv")
    scored = open_scores(tmp_path, ())
    videos = list(scored.videos)
    assert scored.count == 3
    assert [video.video_id for video in videos] == ["Cam 1", "a.mp4", "plain"]
    for video in videos:
        assert video.times_s.tolist() == TIMES.tolist()
        assert video.general.tolist() == SCORES.tolist()
        assert video.classwise is None


def test_class_scores_are_the_columns_that_are_named(tmp_path):
    pq.write_table(table(Fight=SCORES, label=SCORES * 0 + 1, time_s=TIMES), tmp_path / "a.parquet")
    video = one(tmp_path, ("Fight",))
    assert video.classwise.tolist() == SCORES[:, None].tolist()
    assert video.general.tolist() == SCORES.tolist()


def test_a_table_of_all_videos_is_taken_apart(tmp_path):
    rows = {"video_id": ["b", "b", "a", "a"], "time_s": [0.0, 1.0, 0.0, 3.0], "score": SCORES}
    pq.write_table(pa.table(rows), tmp_path / "all.parquet")
    first, second = open_scores(tmp_path / "all.parquet", ()).videos
    assert (first.video_id, first.times_s.tolist(), second.times_s.tolist()) == ("a", [0.0, 3.0], [0.0, 1.0])
    with pytest.raises(PipelineError, match="c: no scores"):
        open_scores(tmp_path / "all.parquet", (), KnownVideos({"a": 2, "b": 2, "c": 2}))


def test_frames_without_times_are_timed_by_the_frame_rate(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    known = KnownVideos(fps={"a": 10.0}, sources={"a": "rtsp://gate"})
    assert one(tmp_path, known=known).times_s.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert one(tmp_path, known=known).source == "rtsp://gate"
    assert one(tmp_path, known=KnownVideos(fps={"a": 10.0}, same_fps=2.0)).times_s.tolist() == [0.0, 0.5, 1.0, 1.5]
    with pytest.raises(PipelineError, match="a: nothing says when its frames are shown"):
        one(tmp_path)


def test_a_score_of_several_frames_is_spread_over_them(tmp_path):
    pq.write_table(table(score=SCORES, time_s=TIMES), tmp_path / "a.parquet")
    form = ScoreForm(stride=16, tail="partial")
    video = one(tmp_path, known=KnownVideos({"a": 50}, same_fps=25.0), form=form)
    assert len(video.general) == len(video.times_s) == 50
    assert video.times_s[-1] == pytest.approx(49 / 25)  # the times of the table are of its rows, not of frames
    assert video.general[[15, 16, 49]].tolist() == [0.1, 0.2, 0.3]
    unknown = one(tmp_path, known=KnownVideos(same_fps=25.0), form=ScoreForm(stride=16))
    assert len(unknown.general) == 64


def test_scores_past_the_last_frame_are_left_out_with_their_times(tmp_path):
    pq.write_table(table(score=SCORES, time_s=TIMES), tmp_path / "a.parquet")
    video = one(tmp_path, known=KnownVideos({"a": 3}, same_fps=1000), form=ScoreForm(clip_frames=2))
    assert (video.general.tolist(), video.times_s.tolist()) == (SCORES[:3].tolist(), TIMES[:3].tolist())


def test_equal_parts_need_the_length_of_the_video(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    with pytest.raises(PipelineError, match="a: scores of equal parts of a video need its length"):
        one(tmp_path, known=KnownVideos(same_fps=25.0), form=ScoreForm(equal_parts=True))
    assert (
        len(one(tmp_path, known=KnownVideos({"a": 40}, same_fps=25.0), form=ScoreForm(equal_parts=True)).general) == 40
    )


def test_an_array_of_all_videos_needs_their_lengths(tmp_path):
    np.save(tmp_path / "all.npy", SCORES)
    (tmp_path / "order.txt").write_text("b\na\n")
    form = ScoreForm(order=tmp_path / "order.txt")
    with pytest.raises(PipelineError, match="scores in other forms need the videos' lengths"):
        open_scores(tmp_path / "all.npy", (), KnownVideos(same_fps=1.0), form)
    found = open_scores(tmp_path / "all.npy", (), KnownVideos({"a": 1, "b": 3}, same_fps=1.0), form)
    assert {video.video_id: video.general.tolist() for video in found.videos} == {"a": [0.3], "b": [0.1, 0.2, 0.9]}


def test_what_is_not_read_is_said_and_a_folder_without_tables_refused(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    (tmp_path / "notes.txt").write_text("x")
    assert "not read: notes.txt" in open_scores(tmp_path, (), KnownVideos(same_fps=1.0)).notes[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="no score tables in this folder"):
        open_scores(tmp_path / "empty", ())


def test_a_folder_with_an_index_says_its_classes_times_and_sources(tmp_path):
    (tmp_path / "frames").mkdir()
    pq.write_table(table(score=SCORES, Fire=SCORES, time_s=TIMES), tmp_path / "frames" / "a.parquet")
    facts = '{"file": "a.parquet", "decoded_frames": %d, "source": {"path": "/x/a"}}'
    index = f'{{"classes": ["Fire"], "videos": {{"a": {facts}}}}}'
    (tmp_path / "index.json").write_text(index % 4)
    assert open_scores(tmp_path, ()).classes == ("Fire",)
    assert (one(tmp_path).source, one(tmp_path).times_s.tolist()) == ("/x/a", TIMES.tolist())
    with pytest.raises(PipelineError, match="how scores are read is for others"):
        open_scores(tmp_path, (), None, ScoreForm(stride=2))
    (tmp_path / "index.json").write_text(index % 5)
    with pytest.raises(LengthMismatch, match="a: 4 scores for 5 decoded frames"):
        one(tmp_path)
