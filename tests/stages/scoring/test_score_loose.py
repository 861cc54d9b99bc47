"""`gig score`: one bad file costs only its own table, tables are never mixed up, and nothing is done twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cache.names import escape
from pipeline.cli.main import main
from pipeline.config import parse_experiment
from pipeline.config.heads import parse_head
from pipeline.config.runs import Training
from pipeline.errors import OutputError, PipelineError
from pipeline.hashing import file_sha256
from pipeline.stages.scoring import score_loose as module
from pipeline.stages.scoring import sources
from pipeline.stages.scoring.score_loose import quarantine_of, score_files
from pipeline.stages.scoring.tables import read_scores
from pipeline.stages.training.saved_heads import make_head, save_head

CLASSES = ("Explosion", "Fighting", "Accident")


def save(folder: Path, seed: int = 0) -> Path:
    """A head that has learnt nothing; returns its folder."""
    folder.mkdir()
    settings = parse_head({"name": "gig"})
    save_head(folder / "head.safetensors", make_head(settings, Training(seed=seed), 2048, 3), settings, None, CLASSES)
    return folder


@pytest.fixture
def scoring(nano, tmp_path, monkeypatch):
    """Score files in tmp_path with a head that has learnt nothing; returns the report and what was said."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(sources, "JUST_S", 3600)  # a file of a test is always just made
    nano["machine"] = {"device": "cpu", "decode_workers": 2}
    head = save(tmp_path / "head")

    def run(*files: Path, head: Path = head, changes: dict | None = None, **options: object):
        said: list[str] = []
        experiment = parse_experiment(nano | (changes or {}))
        return score_files(experiment, "gig", head, files, tmp_path / "scores", say=said.append, **options), said

    run.head = head
    run.folder = tmp_path / "scores"
    return run


def index_of(folder: Path) -> dict:
    return json.loads((folder / "index.json").read_text())


def damage(path: Path) -> None:
    """Overwrite the last packet of a video."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][-1]
        start, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)


def test_a_bad_file_costs_its_own_table_only(scoring, make_video, tmp_path):
    files = [make_video(f"{name}.mp4", frames=7 + number) for number, name in enumerate("abc")]
    files[1].write_bytes(files[0].read_bytes()[:200])
    thresholds = dict(zip(CLASSES, (0.3, None, 0.4), strict=True))
    (scoring.head / "selection.json").write_text(json.dumps({"thresholds": thresholds}))
    report, said = scoring(*files)
    assert (report.scored, report.kept, list(report.failed)) == (("a.mp4", "c.mp4"), (), ["b.mp4"])
    assert [path.name for path in report.tables] == ["a.mp4.parquet", "c.mp4.parquet"]
    assert any(message.startswith("b.mp4 cannot be scored: ") for message in said)
    (record,) = quarantine_of(scoring.folder).records()
    assert (record.video_id, record.path) == ("b.mp4", str(files[1]))

    scores, counts = read_scores(scoring.folder, CLASSES)  # the index has the form of the pipeline's own
    assert (sorted(scores), counts) == (["a.mp4", "c.mp4"], {"a.mp4": 7, "c.mp4": 9})
    index = index_of(scoring.folder)
    assert index["videos"]["c.mp4"]["source"] == {
        "path": str(files[2]),
        "bytes": files[2].stat().st_size,
        "sha256": file_sha256(files[2]),
    }
    assert index["thresholds"] == [0.3, None, 0.4]
    assert index["head"]["path"] == str(scoring.head / "head.safetensors")
    assert index["made_with"]["head"]["sha256"] == file_sha256(scoring.head / "head.safetensors")

    make_video("b.mp4", frames=4)  # repaired
    report, said = scoring(*files)
    assert (report.scored, report.kept, report.failed) == (("b.mp4",), ("a.mp4", "c.mp4"), {})
    assert "not scored again, for file, head and settings are the same: a.mp4, c.mp4" in said
    assert quarantine_of(scoring.folder).records() == []
    assert list(index_of(scoring.folder)["videos"]) == ["a.mp4", "b.mp4", "c.mp4"]


def test_features_are_dropped_as_soon_as_a_file_is_scored(scoring, make_video, tmp_path, monkeypatch):
    files = [make_video(f"{number}.mp4", frames=8) for number in range(4)]
    left = []

    def write(folder, video_id, *rest):
        (scratch,) = (tmp_path / "temporary").glob("gig-scratch-*")
        left.extend(scratch.glob(f"cache/*/payloads/{escape(video_id)}/*/features/**/*"))
        return original(folder, video_id, *rest)

    original = module.write_scores
    monkeypatch.setattr(module, "write_scores", write)
    report, _ = scoring(*files)
    assert len(report.scored) == 4
    assert left == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_table_never_replaces_that_of_another_file(scoring, make_video):
    one, other = make_video("x/cam.mp4", frames=6), make_video("y/cam.mp4", frames=9)
    with pytest.raises(PipelineError, match="two videos of the same name"):
        scoring(one, other)
    report, said = scoring(one, one)
    assert report.scored == ("cam.mp4",)
    assert any("given twice" in message for message in said)
    before = report.tables[0].read_bytes()
    with pytest.raises(OutputError, match=rf"score table of {one}, not of {other}; give another --out"):
        scoring(other)
    assert report.tables[0].read_bytes() == before
    other.write_bytes(one.read_bytes())  # a copy of the same video is the same video
    assert scoring(other)[0].kept == ("cam.mp4",)


def test_a_table_of_unknown_origin_is_not_replaced(scoring, make_video):
    table = scoring.folder / "frames" / "cam.mp4.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(pa.table({"score": [0.5]}), table)
    with pytest.raises(OutputError, match="is there already and does not say of which file"):
        scoring(make_video("cam.mp4", frames=3))
    (scoring.folder / "index.json").write_text('{"classes": [], "videos": {}}')
    with pytest.raises(OutputError, match="not an index of `gig score`"):
        scoring(make_video("other.mp4", frames=3))


def test_a_folder_is_of_one_head_and_one_set_of_settings(scoring, make_video, tmp_path):
    video, another = make_video("a.mp4", frames=6), make_video("b.mp4", frames=6)
    scoring(video)
    for file in (video, another):
        with pytest.raises(
            OutputError, match=r"other settings.*\n  head\.sha256: there [0-9a-f]{64}, here [0-9a-f]{64}$"
        ):
            scoring(file, head=save(tmp_path / f"other-{file.stem}", seed=1))
    with pytest.raises(OutputError, match=r"scoring\.smooth_sigma: there 2\.0, here 1\.0$"):
        scoring(video, changes={"scoring": {"smooth_sigma": 1.0}})
    with pytest.raises(OutputError, match=r"scoring\.cue: there not named, here running$"):
        scoring(video, changes={"scoring": {"cue": "running"}})


def test_the_index_names_the_running_cue(scoring, make_video):
    scoring(make_video("a.mp4", frames=6), changes={"scoring": {"cue": "running"}})
    assert index_of(scoring.folder)["made_with"]["scoring"]["cue"] == "running"


def test_a_file_that_changed_is_scored_again(scoring, make_video):
    video = make_video("a.mp4", frames=6)
    scoring(video)
    make_video("a.mp4", frames=9)
    report, said = scoring(video, as_csv=True)
    assert report.scored == ("a.mp4",)
    assert any(message.startswith("a.mp4 is scored again") for message in said)
    assert len(report.tables[0].read_text().splitlines()) == 1 + 9
    report.tables[0].unlink()
    report, _ = scoring(video, as_csv=True)  # CSV of a table that is kept
    assert (report.kept, len(report.tables[0].read_text().splitlines())) == (("a.mp4",), 10)
    table = scoring.folder / "frames" / "a.mp4.parquet"
    table.write_bytes(table.read_bytes().replace(b"PAR1", b"PAR1", 1)[:4] + b"\x00" + table.read_bytes()[5:])
    assert scoring(video)[0].scored == ("a.mp4",)  # its bytes are not those of the index


def test_an_unchanged_file_is_not_read_again_and_its_content_decides_where_its_times_differ(
    scoring, make_video, tmp_path, monkeypatch
):
    monkeypatch.setattr(sources, "JUST_S", -1)  # a file that has settled
    read: list[Path] = []
    original = sources.content_sha256
    monkeypatch.setattr(sources, "content_sha256", lambda path: read.append(path) or original(path))
    path = make_video("a.mp4", frames=6)
    assert scoring(path)[0].scored == ("a.mp4",)
    assert (scoring(path)[0].kept, read) == (("a.mp4",), [])
    os.utime(path, (1, 1))
    assert (scoring(path)[0].kept, read) == (("a.mp4",), [path])
    (tmp_path / "y").mkdir()
    moved = path.rename(tmp_path / "y" / "a.mp4")
    assert (scoring(moved)[0].kept, read) == (("a.mp4",), [path, moved])
    assert index_of(scoring.folder)["videos"]["a.mp4"]["source"]["path"] == str(moved)
    assert (scoring(moved)[0].kept, read) == (("a.mp4",), [path, moved])
    content = bytearray(moved.read_bytes())
    content[-1] ^= 1
    moved.write_bytes(content)
    os.utime(moved, (1, 1))  # the size and the time of before
    assert scoring(moved)[0].scored == ("a.mp4",)


def test_a_file_that_was_just_changed_is_read(make_video, monkeypatch):
    path = make_video("a.mp4")
    video = sources.LocalVideo("a.mp4", path)
    monkeypatch.setattr(sources, "JUST_S", 3600)
    assert video.facts() == {}
    monkeypatch.setattr(sources, "JUST_S", -1)
    source = {"path": video.place, "sha256": "another", **video.facts()}
    assert video.unchanged(source)
    assert not video.unchanged(source | {"version": "of another time"})


def test_a_table_whose_entry_was_never_written_is_taken_up(scoring, make_video):
    video = make_video("a.mp4", frames=6)
    scoring(video)
    (scoring.folder / "index.json").unlink()  # as after a kill between the two
    assert scoring(video)[0].kept == ("a.mp4",)
    assert index_of(scoring.folder)["videos"]["a.mp4"]["decoded_frames"] == 6


def test_damage_is_said_and_counted(scoring, make_video):
    files = [make_video("whole.mp4", frames=40), make_video("cut.mp4", frames=40)]
    damage(files[1])
    report, said = scoring(*files)
    assert report.damaged == ("cut.mp4",)
    assert [message for message in said if message.startswith("cut.mp4 is damaged and kept: ")]
    assert index_of(scoring.folder)["videos"]["cut.mp4"]["damage"]["message"]
    assert scoring(*files)[0].damaged == ("cut.mp4",)  # also of tables that are kept


def test_the_command_names_bad_files_at_the_end_and_fails(scoring, make_video, nano, write_config, tmp_path):
    good, bad, cut = make_video("good.mp4", frames=6), make_video("bad.mp4", frames=6), make_video("cut.mp4", frames=40)
    bad.write_text("not a video")
    damage(cut)
    out = tmp_path / "out"
    command = ["score", "--config", write_config(nano), "--head", scoring.head, "--out", out, bad, good, cut]
    result = CliRunner().invoke(main, list(map(str, command)))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [str(out / "frames" / f"{name}.mp4.parquet") for name in ("good", "cut")]
    end = result.stderr.splitlines()[-4:]
    assert "1 of 3 video(s) could not be scored" in end[-3]
    assert end[-2].startswith("  bad.mp4: ")
    assert "2 scored, 0 kept from before, 1 could not be scored" in result.stderr
    assert "cut.mp4 is damaged and kept" in result.stderr
    assert "1 damaged in part and scored without what is lost: cut.mp4" in result.stderr
    assert "# STAND-IN MODEL: THESE SCORES MEAN NOTHING FOR REAL VIDEOS" in result.stderr
    assert "tpn_tiny" in index_of(out)["warnings"][0]
    assert "warning: " in result.stderr  # of the head, which says not what it was trained on
    listed = CliRunner().invoke(main, ["quarantine", "ls", "--scores", str(out)])
    assert listed.stdout.startswith("bad.mp4  ")
    assert "1 cleared" in CliRunner().invoke(main, ["quarantine", "clear", "--scores", str(out)]).stdout
