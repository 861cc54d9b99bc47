"""`gig cache`: what it prints for people and for machines, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cache import FeatureStore
from pipeline.cli.main import main


def maps(clips: int) -> np.ndarray:
    return np.random.default_rng(clips).random((1, clips, 2, 3, 4)).astype(np.float16)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    store = FeatureStore.open(tmp_path / "cache")
    for namespace, video_id, clips in (("a-ns", "v1", 3), ("a-ns", "Ärger b", 40), ("b-ns", "v1", 3)):
        with store.writer(namespace, video_id, views=1, rows=2, columns=3, channels=4, frames_per_clip=1) as writer:
            writer.append(0, maps(clips)[0], np.zeros((clips, 1), int))
            writer.set_times(np.arange(clips))
            writer.commit({"made": "here"})
    return store


@pytest.fixture
def gig(store):
    def run(*arguments: object, code: int = 0):
        command = ["cache", str(arguments[0]), "--cache", store.url, *map(str, arguments[1:])]
        result = CliRunner().invoke(main, command, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return run


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def damage(store: FeatureStore) -> Path:
    folder = Path(store.url) / "a-ns" / store.record("a-ns", "v1").payload / "features"
    path = next(path for path in folder.rglob("0") if path.is_file())
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return path


def test_ls_lists_namespaces_and_videos(gig, store):
    table = gig("ls").stdout.splitlines()
    assert table[0].split()[:3] == ["namespace", "videos", "clips"]
    assert [line.split()[:3] for line in table[1:]] == [["a-ns", "2", "43"], ["b-ns", "1", "3"]]
    rows = lines(gig("ls", "--json"))
    assert rows[0]["MiB"] == round(store.stats("a-ns").stored_bytes / 2**20, 2)
    videos = lines(gig("ls", "a-ns", "--json"))
    assert [(row["video"], row["clips"], row["map"]) for row in videos] == [
        ("v1", 3, "2x3x4"),
        ("Ärger b", 40, "2x3x4"),
    ]


def test_ls_of_an_empty_cache_prints_nothing(gig, store, tmp_path):
    assert CliRunner().invoke(main, ["cache", "ls", "--cache", str(tmp_path / "none")]).stdout == ""


def test_info_prints_a_namespace_or_a_record(gig):
    facts = json.loads(gig("info", "a-ns").stdout)
    assert (facts["videos"], facts["clips"], facts["dtypes"]) == (2, 43, ["float16"])
    record = json.loads(gig("info", "a-ns", "Ärger b").stdout)
    assert (record["shapes"]["features"], record["provenance"]) == ([1, 40, 2, 3, 4], {"made": "here"})
    assert "nobody" in gig("info", "a-ns", "nobody", code=1).stderr


def test_a_namespace_that_is_not_there_is_an_error_that_names_those_that_are(gig):
    for command in ("ls", "info", "verify", "gc"):
        assert "no namespace 'c-ns'" in (error := gig(command, "c-ns", code=1).stderr)
        assert "a-ns, b-ns" in error


def test_verify_names_video_and_array_and_repair_withdraws(gig, store):
    assert "all is as it was written" in gig("verify").stdout
    damage(store)
    result = gig("verify", code=1).stdout
    assert "damaged: a-ns/v1, features: " in result
    assert "1 problem(s)" in result
    assert gig("verify", "b-ns").exit_code == 0
    (finding,) = lines(gig("verify", "--json", code=1))
    assert (finding["namespace"], finding["video_id"], finding["array"]) == ("a-ns", "v1", "features")
    assert "[withdrawn]" in gig("verify", "--repair", code=1).stdout
    assert store.video_ids("a-ns") == {"Ärger b"}
    assert "orphan: a-ns/v1" in gig("verify").stdout


def test_gc_says_what_it_removes(gig, store):
    store.withdraw("b-ns", "v1")
    for kept in (gig("gc").stdout, gig("gc", "--dry-run").stdout):
        assert "0 payload(s)" in kept
        assert "1 younger than 24 h kept (--older-than)" in kept
    (row,) = lines(gig("gc", "--older-than", 0, "--dry-run", "--json"))
    assert row["namespace"] == "b-ns"
    assert "1 payload(s) would be removed" in gig("gc", "--older-than", 0, "--dry-run").stdout
    removed = gig("gc", "--older-than", 0).stdout
    assert "1 payload(s) removed" in removed
    assert "younger" not in removed
    assert "0 payload(s) removed" in gig("gc", "--older-than", 0).stdout


def test_rm_withdraws_the_named_videos_and_only_if_all_can_be(gig, store):
    before = store.video_ids("a-ns")
    assert "a-ns: not in the cache" in gig("rm", "a-ns", "v1", "v3", "--yes", code=1).stderr
    assert "would withdraw 1 video(s)" in gig("rm", "a-ns", "v1", "--dry-run").stdout
    assert "Aborted" in gig("rm", "a-ns", "v1", code=1).stderr  # nobody said yes
    with store.writer("a-ns", "v1", views=1, rows=2, columns=3, channels=4, frames_per_clip=1):
        refused = gig("rm", "a-ns", "Ärger b", "v1", "--yes", code=1).stderr
        assert "a process is writing v1; nothing was withdrawn" in refused
    assert store.video_ids("a-ns") == before
    assert "withdrew 1 video(s)" in gig("rm", "a-ns", "v1", "v1", "--yes").stdout
    assert store.video_ids("a-ns") == before - {"v1"}
    assert store.video_ids("b-ns") == {"v1"}
    assert "1 payload(s) removed" in gig("gc", "--older-than", 0).stdout


@pytest.mark.parametrize("kind", ["h5", "npy"])
def test_export_and_import_bring_everything_back(gig, store, tmp_path, kind):
    out = tmp_path / "out" / ("a.h5" if kind == "h5" else "a")
    assert "2 video(s) written" in gig("export", "a-ns", out, "--format", kind).stdout
    assert "2 video(s) imported" in gig("import", out, "c-ns").stdout
    np.testing.assert_array_equal(store.reader("c-ns", "Ärger b").features(0), maps(40)[0])
    again = [json.loads(line)["video"] for line in gig("import", out, "d-ns", "--json").stdout.splitlines()]
    assert set(again) == store.video_ids("d-ns") == store.video_ids("a-ns")


def test_of_exported_features_no_frame_counts_are_made_and_it_is_said_why(gig, store, tmp_path):
    gig("export", "a-ns", tmp_path / "out", "--format", "npy")
    command = ["cache", "frame-counts", str(tmp_path / "out"), "--out", str(tmp_path / "counts.csv")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "those of 2 videos are of `gig cache export`, and say themselves how long they are: import" in result.stderr


def test_import_of_published_features_takes_the_layout_from_options(gig, store, tmp_path):
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "v9_i3d.npy", np.ones((6, 10, 8), np.float64))
    assert "say what their rows stand for" in gig("import", tmp_path / "npy", "i3d", code=1).stderr
    options = ["--fps", 25, "--frames-per-clip", 8, "--segments", 3, "--dtype", "float16", "--suffix", "_i3d"]
    gig("import", tmp_path / "npy", "i3d", *options)
    record = store.record("i3d", "v9")
    assert (record.shapes["features"], record.shapes["times"], record.dtype) == ((10, 3, 1, 1, 8), (48,), "float16")


def test_a_table_of_frame_counts_is_made_of_features_and_chooses_the_videos_of_a_split(gig, store, tmp_path):
    """One folder of both splits, one crop per file; the table lists them after their splits."""
    for split, name, clips in (("train", "n1", 4), ("test", "t1", 3)):
        for crop in range(2):
            (tmp_path / split).mkdir(exist_ok=True)
            np.save(tmp_path / split / f"{name}__{crop}.npy", np.ones((clips, 8), np.float16))
    table, both = tmp_path / "counts.csv", tmp_path / "both"
    command = ["cache", "frame-counts", "--train", tmp_path / "train", "--test", tmp_path / "test", "--fps", 25]

    def made(*arguments: object):
        return CliRunner().invoke(main, [str(word) for word in (*command, *arguments)])

    assert "2 video(s), 112 frames" in made("--out", table).stdout
    assert table.read_text() == "video_id,frames,fps,split,clip_frames\nn1,64,25,train,16\nt1,48,25,test,16\n"
    assert "is there already" in made("--out", table).stderr
    assert "t1: has features in" in made(tmp_path / "test", "--out", tmp_path / "twice.csv").stderr
    (tmp_path / "train").rename(both)
    for file in (tmp_path / "test").iterdir():
        file.rename(both / file.name)
    result = gig("import", both, "test", "--frame-counts", table, "--split", "test")
    assert store.video_ids("test") == {"t1"}
    assert "1 video(s) are listed and not of the chosen split: left aside" in result.stderr
    assert len(store.reader("test", "t1").times()) == 48
    (tmp_path / "bare.csv").write_text("video_id,frames\nt1,48\nn1,64\n")
    error = gig("import", both, "x", "--frame-counts", tmp_path / "bare.csv", "--split", "test", code=1).stderr
    assert "split test: expected videos of that split" in error


def test_bench_measures_and_leaves_nothing(gig, store):
    rows = lines(gig("bench", "--clips", 8, "--repeats", 1, "--json"))
    assert [row["way"] for row in rows] == ["this cache", "zarr-python's defaults", "raw .npy", "h5py", "h5py, gzip 1"]
    assert all(row["write_mb_s"] > 0 and row["read_mb_s"] > 0 for row in rows)
    assert rows[2]["bytes_per_clip"] >= 7 * 7 * 2048 * 2 > rows[0]["bytes_per_clip"]
    assert store.namespaces() == ["a-ns", "b-ns"]
