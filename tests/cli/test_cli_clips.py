"""`gig clips` and `gig render`: files in, files out, and what is said."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cache.names import escape
from pipeline.cli.main import main
from pipeline.cli.videos import known_videos
from pipeline.data.decoding.decode import iter_raw_frames
from pipeline.data.events import Event, write_events
from pipeline.errors import PipelineError


def gig(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def events(tmp_path, make_video):
    make_video("videos/v.mp4", frames=20)
    path = tmp_path / "events.jsonl"
    write_events(path, [Event("v", "", "Fighting", 0.3, 1.0, 3, 10, 0.5, 0.9, 0.6)])
    return path


def test_clips_of_a_folder_of_videos(events, tmp_path):
    out = tmp_path / "out"
    result = gig("clips", events, "--videos", tmp_path / "videos", "--margin", "0.1", "--out", out)
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader(io.StringIO((out / "clips.csv").read_text()))
    assert (row["first_frame"], row["frames"]) == ("2", "9")
    assert len(list(iter_raw_frames(out / row["clip"]))) == 9
    assert (out / "sheet-1.png").exists()
    assert "is there already" in gig("clips", events, "--videos", tmp_path / "videos", "--out", out).stderr


def test_from_the_folder_of_gig_score_to_clips_and_a_rendered_video_without_a_configuration(tmp_path, make_video):
    """Its index says where the videos lie, events carry that on, and names are as they are."""
    name = "Kamera 1 \N{EN DASH} Tür, =2.mp4"
    video = make_video(f"videos/{name}", frames=20)
    scores = np.zeros(20)
    scores[5:12] = 0.9
    table = tmp_path / "scores" / "frames" / f"{escape(name)}.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(pa.table({"frame": np.arange(20), "time_s": np.arange(20) / 10, "score": scores}), table)
    entry = {"file": table.name, "decoded_frames": 20, "source": {"path": str(video), "sha256": ""}, "damage": None}
    index = {"classes": [], "videos": {name: entry}, "made_with": {"head": {"sha256": "1"}}}
    (tmp_path / "scores" / "index.json").write_text(json.dumps(index))
    result = gig("events", "--scores", tmp_path / "scores", "--out", tmp_path / "events", "--min-length", 0)
    assert result.exit_code == 0, result.output
    found = tmp_path / "events" / "events.parquet"
    result = gig("clips", found, "--margin", 0, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out" / "clips.csv").read_text()))
    assert (row["video_id"], row["first_frame"], row["frames"]) == (name, "5", "7")
    arguments = ("--scores", tmp_path / "scores", "--events", found, "--out", tmp_path / "o.mp4")
    result = gig("render", name, *arguments)
    assert result.exit_code == 0, result.output
    assert "20 frames" in result.stdout
    assert "no event" not in result.stderr


def test_of_several_files_of_one_name_the_events_own_source_is_taken_else_the_whole_path(make_video, tmp_path):
    folder = tmp_path / "videos"
    for name, frames in {"v.mp4": 12, "a/v.mp4": 14, "b/v.mp4": 16, "b/w.mp4": 18, "c/w.mp4": 20}.items():
        make_video(f"videos/{name}", frames=frames)

    def chosen(video_id: str, source: str = "") -> str:
        events = [Event(video_id, source, "Fighting", 0.3, 1.0, 3, 10, 0.5, 0.9, 0.6)]
        return known_videos(events, None, folder)[video_id].path

    assert chosen("v.mp4", str(folder / "b" / "v.mp4")) == str(folder / "b" / "v.mp4")
    assert chosen("v.mp4", "/elsewhere/v.mp4") == chosen("v.mp4") == str(folder / "v.mp4")
    with pytest.raises(PipelineError, match=r"w\.mp4: several files have that name: .*b/w\.mp4, .*c/w\.mp4"):
        chosen("w.mp4", "/elsewhere/w.mp4")


def test_what_a_killed_command_left_is_not_among_the_clips(events, tmp_path):
    left = tmp_path / "out.partial" / "clips" / "0001-half.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    result = gig("clips", events, "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out" / "clips").iterdir()] == ["0001-v.=46ighting-3-10.mp4"]


@pytest.mark.parametrize("command", ["clips", "render"])
def test_ctrl_c_leaves_nothing(events, tmp_path, monkeypatch, command):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.stages.clips.process._Child.receive", interrupted)
    pq.write_table(pa.table({"score": np.zeros(20)}), tmp_path / "v.parquet")
    before = sorted(path.name for path in tmp_path.iterdir())
    if command == "clips":
        result = gig("clips", events, "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    else:
        arguments = ("--scores", tmp_path / "v.parquet", "--out", tmp_path / "o.mp4")
        result = gig("render", tmp_path / "videos" / "v.mp4", *arguments)
    assert result.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".locks") == before


def test_a_video_that_cannot_be_read_is_said_and_fails_the_command(events, tmp_path):
    (tmp_path / "videos" / "w.mp4").write_bytes(b"nothing")
    both = tmp_path / "both.csv"
    times = [(name, Event(name, "", "Fighting", 0.3, 1.0, 3, 10, 0.5, 0.9, 0.6)) for name in ("v", "w")]
    write_events(both, [event for _, event in times])
    result = gig("clips", both, "--videos", tmp_path / "videos", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "1 video(s) without all of their clips: w" in result.stderr
    assert len(list((tmp_path / "out" / "clips").iterdir())) == 1


def test_where_the_videos_are_must_be_known(events, tmp_path):
    result = gig("clips", events, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "v: expected to know where the video is: give --config or --videos" in result.stderr


def test_render_with_a_score_table(events, tmp_path):
    table, out = tmp_path / "v.parquet", tmp_path / "v-scores.mp4"
    pq.write_table(pa.table({"frame": np.arange(20), "score": np.linspace(0, 1, 20)}), table)
    arguments = ("render", tmp_path / "videos" / "v.mp4", "--scores", table, "--events", events, "--out")
    result = gig(*arguments, out)
    assert result.exit_code == 0, result.output
    assert f"20 frames: {out}" in result.stdout
    frames = list(iter_raw_frames(out))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(20) / 10, atol=1e-6)
    assert "expected a file that ends in .mp4" in gig(*arguments, tmp_path / "v.avi").stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".mp4") == ["v-scores.mp4"]


def test_render_refuses_times_that_do_not_rise(events, tmp_path):
    pq.write_table(pa.table({"score": [0.5, 0.6], "time_s": [0.1, 0.1]}), tmp_path / "v.parquet")
    result = gig("render", tmp_path / "videos" / "v.mp4", "--scores", tmp_path / "v.parquet")
    assert (result.exit_code, "expected times that rise in the column time_s" in result.stderr) == (1, True)


def test_a_video_that_cannot_be_rendered_leaves_nothing(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    pq.write_table(pa.table({"score": [0.5]}), tmp_path / "v.parquet")
    result = gig("render", tmp_path / "bad.mp4", "--scores", tmp_path / "v.parquet", "--out", tmp_path / "o.mp4")
    assert (result.exit_code, "bad.mp4: not a video" in result.stderr) == (1, True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("o.mp4") and path.suffix != ".lock"]


def test_render_needs_scores_from_somewhere(tmp_path):
    assert "expected --config" in gig("render", "v.mp4").stderr
    assert "--finetuned goes with --config" in gig("render", "v.mp4", "--finetuned", "--scores", tmp_path).stderr


@pytest.mark.slow
def test_render_lays_the_relation_maps_of_a_run_over_its_test_video(nano, write_config, tmp_path):
    config = write_config(nano)
    plain, laid = tmp_path / "plain.mp4", tmp_path / "laid.mp4"
    result = gig("render", "--config", config, "--out", plain, "nobody")
    assert "nobody: expected the id of a test video of nano" in result.stderr
    result = gig("manifest", "--config", config)
    manifest = pq.read_table(f"{result.stdout.strip()}/videos.parquet").to_pylist()
    video = next(row["video_id"] for row in manifest if row["split"] == "test")
    assert gig("render", "--config", config, "--out", plain, video).exit_code == 0
    result = gig("render", "--config", config, "--relation-maps", "--out", laid, video)
    assert result.exit_code == 0, result.output
    pairs = zip(iter_raw_frames(plain), iter_raw_frames(laid), strict=True)
    assert min(np.abs(a.image.astype(int) - b.image).mean() for a, b in pairs) > 3
    config = write_config(nano | {"finetune": {"enabled": True, "epochs": 1, "batch_bags": 2}})
    tuned = tmp_path / "tuned.mp4"
    result = gig("render", "--config", config, "--finetuned", "--relation-maps", "--out", tuned, video)
    assert result.exit_code == 0, result.output
    pairs = zip(iter_raw_frames(laid), iter_raw_frames(tuned), strict=True)
    assert max(np.abs(a.image.astype(int) - b.image).mean() for a, b in pairs) > 0  # another head, other scores
