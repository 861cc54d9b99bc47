"""From frame scores to metrics."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import pyarrow.parquet as pq
import pytest
from small_dataset import entry, extract

from pipeline.data.manifest import Interval, Manifest, save
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.evaluation.evaluate import evaluate_run
from pipeline.stages.evaluation.summary import summary_table, write_summary
from pipeline.stages.scoring.score import score_split
from pipeline.stages.scoring.tables import read_scores
from pipeline.stages.training.train import train_head


def evaluate(experiment, manifest, scores, tmp_path, **options):
    save(manifest, tmp_path / "manifest")
    evaluate_run(experiment, "gig", tmp_path / "manifest", scores, tmp_path / "out", **options)


class TestEvaluation:
    @pytest.fixture
    def scored(self, cached, tmp_path):
        experiment, manifest = cached
        train_head(experiment, "gig", manifest, "train", tmp_path / "head")
        score_split(experiment, "gig", manifest, "test", tmp_path / "head", tmp_path / "scores")
        return experiment, manifest, tmp_path / "scores"

    def test_metrics_are_written(self, scored, tmp_path):
        experiment, manifest, scores = scored
        evaluate(experiment, manifest, scores, tmp_path)
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert (metrics["videos"], metrics["frames"], metrics["anomalous_frames"]) == (2, 23 + 24, 10)
        alone = metrics["figures"]["false_alarm_rate"]  # of one normal video
        assert (alone["low"], alone["high"]) == (None, None)
        assert alone["reason"] == "the interval is not defined: the figure rests on one video"
        assert "reason" not in metrics["figures"]["frame_auc"]
        assert (tmp_path / "out" / "per_class.csv").read_text().splitlines()[0].startswith("class,precision")
        assert len((tmp_path / "out" / "per_video.csv").read_text().splitlines()) == 3

    def test_lost_frames_keep_their_rows_and_are_told(self, scored, tmp_path):
        experiment, manifest, _ = scored
        path = manifest.video_path("t2")
        with av.open(str(path)) as container:
            packet = [p for p in container.demux(video=0) if p.size][-1]
            start, size = packet.pos, packet.size
        data = bytearray(path.read_bytes())
        data[start : start + size] = b"\xff" * size
        path.write_bytes(data)
        assert extract(experiment, manifest, "test", manifest.split("test"), "test").extracted == ("t2",)
        score_split(experiment, "gig", manifest, "test", tmp_path / "head", tmp_path / "again")
        said = []
        evaluate(experiment, manifest, tmp_path / "again", tmp_path, say=said.append)
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        ((start, stop),) = metrics["lost_frames"]["t2"]
        assert (metrics["frames"], stop - start) == (23 + 24, 1)
        assert any(line.startswith(f"warning: t2: 1 of 24 frames could not be decoded ({start})") for line in said)

    def test_many_warnings_are_counted_and_all_are_kept(self, scored, tmp_path):
        experiment, manifest, scores = scored
        cut = tuple(Interval("t1", interval.label, n, 1000) for n in range(12) for interval in manifest.intervals[:1])
        origin = replace(manifest.origin, clip_past_end=True)
        said = []
        evaluate(experiment, replace(manifest, intervals=cut, origin=origin), scores, tmp_path, say=said.append)
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert sum("is cut to the 23 decoded frames" in line for line in metrics["warnings"]) == 12
        assert (
            said[-1]
            == f"warning: {len(metrics['warnings']) - 10} more warnings on scores and ground truth are in metrics.json"
        )
        assert len(said) == 11

    def test_a_truth_without_anomaly_is_evaluated_as_far_as_it_goes(self, scored, tmp_path):
        experiment, manifest, scores = scored
        calm = [replace(v, labels=()) if v.split == "test" else v for v in manifest.videos]
        evaluate(experiment, replace(manifest, videos=tuple(calm), intervals=()), scores, tmp_path)
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert metrics["auc"] is None
        assert metrics["figures"]["frame_auc"]["reason"] == "not defined without anomalous and normal frames"
        assert metrics["figures"]["false_alarm_rate"]["value"] is not None
        assert pq.read_table(tmp_path / "out" / "curves.parquet").num_rows == 0
        write_summary(experiment, [tmp_path / "out"], tmp_path / "summary")
        assert " -  " in summary_table(tmp_path / "summary")
        said = summary_table(tmp_path / "summary", stand_in=["The weights are random."])
        assert "\nstand-in model: The weights are random.\n" in said
        assert "NaN" not in (tmp_path / "summary" / "summary.json").read_text()

    def test_a_table_of_another_length_is_an_error_that_names_the_video(self, scored, tmp_path):
        experiment, manifest, scores = scored
        path = scores / "frames" / "t1.parquet"
        pq.write_table(pq.read_table(path).slice(1), path)
        with pytest.raises(LengthMismatch, match="t1: 22 scores for 23 decoded frames"):
            evaluate(experiment, manifest, scores, tmp_path)

    def test_missing_tables_and_other_classes_are_errors(self, scored):
        _, _, scores = scored
        with pytest.raises(PipelineError, match="expected the classes Other"):
            read_scores(scores, ("Other",))
        (scores / "frames" / "t2.parquet").unlink()
        with pytest.raises(PipelineError, match="t2"):
            read_scores(scores, ("Fighting", "Robbery"))
        with pytest.raises(PipelineError, match="index"):
            read_scores(scores / "nowhere", ())

    def test_a_video_without_scores_is_an_error(self, scored, tmp_path):
        experiment, manifest, scores = scored
        more = Manifest(manifest.root, manifest.classes, (*manifest.videos, entry("t3", "test")), manifest.intervals)
        with pytest.raises(PipelineError, match="t3"):
            evaluate(experiment, more, scores, tmp_path)

    def test_an_interval_past_the_last_decoded_frame_is_an_error(self, scored, tmp_path):
        experiment, manifest, scores = scored
        late = Manifest(manifest.root, manifest.classes, manifest.videos, (Interval("t1", "Fighting", 5, 24),))
        with pytest.raises(PipelineError, match="t1.*24.*23 frames"):
            evaluate(experiment, late, scores, tmp_path)
