"""The files of a submission; no file made for other programs holds a formula."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Evaluation, parse_experiment
from pipeline.data.manifest import Interval, Manifest, VideoEntry, save
from pipeline.stages.evaluation.evaluate import evaluate_tables
from pipeline.stages.evaluation.summary import write_summary
from pipeline.stages.scoring.submission import export_submission
from pipeline.stages.scoring.tables import read_lengths, read_tables
from pipeline.stages.scoring.video_scores import VideoScores, write_csv, write_scores


def own(folder: Path, classes: tuple[str, ...], tables: dict[str, np.ndarray], **more: object) -> Path:
    """The form of our own score tables."""
    (folder / "frames").mkdir(parents=True)
    index = {}
    for number, (video_id, table) in enumerate(tables.items()):
        columns = dict(zip(classes, table.T, strict=True))
        pq.write_table(pa.table(columns), folder / "frames" / f"{number}.parquet")
        index[video_id] = {"file": f"{number}.parquet", "decoded_frames": len(table)}
    (folder / "index.json").write_text(json.dumps({"classes": classes, "videos": index} | more))
    return folder


def entry(video_id: str, split: str, *labels: str) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", split, labels, None, 96, 64, 10.0, 20, 1)


def test_a_submission_by_hand(tmp_path):
    table = np.array([[0.6, 0.1], [0.8, 0.7], [0.2, 0.9], [0.9, 0.2]])
    folder = own(tmp_path / "s", ("Fight", "Fire"), {"v": table}, thresholds=[None, 0.65])
    first, second = export_submission(folder, tmp_path / "out", 0.5)
    assert first.read_text().split() == [
        "video,frame,score",
        "v,0,0.600000",
        "v,1,0.800000",
        "v,2,0.900000",
        "v,3,0.900000",
    ]
    assert second.read_text().split() == [
        "video,class,start,end,score",
        "v,Fight,0,2,0.700000",
        "v,Fight,3,4,0.900000",
        "v,Fire,1,3,0.800000",
    ]


class TestNamesThatASpreadsheetWouldRun:
    """Names of videos and classes may come from others; a CSV file holds them as text, read back unchanged."""

    CLASSES = ("=Fight", "@Fire")
    LENGTHS = {"=a()": 8, "+n": 6}

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        """Our own tables of such videos and classes."""
        rng = np.random.default_rng(0)
        return own(tmp_path / "s", self.CLASSES, {v: rng.random((frames, 2)) for v, frames in self.LENGTHS.items()})

    @staticmethod
    def cells(file: Path) -> list[str]:
        with file.open(newline="", encoding="utf-8") as stream:
            return [cell for row in csv.reader(stream) for cell in row]

    def test_no_file_of_an_evaluation_or_submission_holds_one(self, folder, tmp_path):
        videos = [entry("t0", "train"), entry("t1", "train", *self.CLASSES)]
        videos += [entry(v, "test", *(self.CLASSES if v == "=a()" else ())) for v in self.LENGTHS]
        intervals = tuple(Interval("=a()", label, 2, 5) for label in self.CLASSES)
        save(Manifest(tmp_path, self.CLASSES, tuple(videos), intervals), tmp_path / "manifest")
        evaluate_tables(folder, tmp_path / "manifest", tmp_path / "e", Evaluation(resamples=0))
        metrics = json.loads((tmp_path / "e/metrics.json").read_text()) | {
            "run": "r",
            "head": "h",
            "backbone": "b",
            "stage": "s",
        }
        (tmp_path / "e/metrics.json").write_text(json.dumps(metrics))
        experiment = parse_experiment(
            {"experiment": "x", "backbone": {"weights": "random"}}
            | {"dataset": {"adapter": "csv", "name": "x", "root": str(tmp_path), "classes": list(self.CLASSES)}}
        )
        write_summary(experiment, [tmp_path / "e"], tmp_path / "summary")
        export_submission(folder, tmp_path / "out", 0.5)
        files = [*tmp_path.glob("e/*.csv"), *tmp_path.glob("summary/*.csv"), *tmp_path.glob("out/*.csv")]
        assert len(files) == 8
        cells = [cell for file in files for cell in self.cells(file)]
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "@")]
        assert {"'=a()", "'+n", "'=Fight", "'@Fire"} <= set(cells)
        assert read_lengths(tmp_path / "e/per_video.csv") == self.LENGTHS

    def test_a_score_table_is_read_back(self, tmp_path):
        scores = np.random.default_rng(0).random((8, 2)).astype(np.float32)
        video = VideoScores(
            scores,
            scores.max(axis=1),
            np.arange(8.0),
            np.zeros((1, 3)),
            np.zeros((1, 2)),
            np.zeros((1, 1), int),
            np.zeros((1, 4), np.float32),
        )
        table = write_scores(tmp_path, "a", video, self.CLASSES)
        write_csv(table)
        table.unlink()
        assert self.cells(tmp_path / "frames/a.csv")[:5] == ["frame", "time_s", "score", "'=Fight", "'@Fire"]
        found = read_tables(tmp_path / "frames", self.CLASSES, {"a": 8})
        np.testing.assert_allclose(found.classwise["a"], scores, rtol=1e-6)
