"""The page of score tables of any system, with ground truth and without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_up import bump, entry, make_run

from pipeline.cli.main import main
from pipeline.data.manifest import Interval, Manifest, save
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.report.from_tables import Source, TableOptions, write_tables_report
from pipeline.stages.scoring.score_form import ScoreForm


def text(path: Path) -> str:
    """The words of a page without its script and style."""
    import re

    page = re.sub(r"<(script|style)\b.*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def write_csv(folder: Path, scores: dict[str, np.ndarray], **columns: np.ndarray) -> Path:
    folder.mkdir()
    for name, values in scores.items():
        table = {"score": values, **columns}
        rows = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
        (folder / f"{name}.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def truth(tmp_path) -> Path:
    """100 frames each, at 10 a second: `odd` shows Fighting in frames 40 to 59, `even` nothing."""
    videos = (entry("odd", "Fighting"), entry("even"))
    save(Manifest(tmp_path, ("Fighting", "Theft"), videos, (Interval("odd", "Fighting", 40, 60),)), tmp_path / "truth")
    return tmp_path / "truth"


SCORES = {"odd": bump(100, 0.9, 42, 58), "even": bump(100, 0.1, 0, 0)}


def test_with_ground_truth_there_are_metrics_and_verdicts_of_every_system(truth, tmp_path):
    good = write_csv(tmp_path / "good", SCORES)
    np.savez(tmp_path / "poor.npz", odd=bump(100, 0.1, 0, 0), even=bump(100, 0.8, 10, 20))
    sources = [Source("good", good), Source("poor", tmp_path / "poor.npz")]
    write_tables_report(sources, truth, tmp_path / "page")
    index = text(tmp_path / "page" / "index.html")
    assert index.startswith("good, poor: results")
    assert "2 test videos, 1 with an annotated anomaly; 0:20 of footage" in index
    assert json.loads((tmp_path / "page" / "evaluation-poor" / "metrics.json").read_text())["figures"]
    odd = text(tmp_path / "page" / "videos" / "odd.html")
    assert "good: 1 of 1 found, no false alarm" not in odd  # only false alarms that there are
    assert "good: 1 of 1 found" in odd
    assert "poor: 0 of 1 found" in odd
    assert "0:04.2 to 0:05.8" in odd  # by the manifest's frame rate
    assert "poor: 1 false alarm" in text(tmp_path / "page" / "videos" / "even.html")


def test_tables_without_class_scores_show_no_class(truth, tmp_path):
    write_tables_report([Source("x", write_csv(tmp_path / "x", SCORES))], truth, tmp_path / "page")
    data = page_data(tmp_path / "page" / "videos" / "odd.html")
    assert [curve["label"] for curve in data["runs"][0]["curves"]] == ["anomaly"]
    assert "The scores hold no classes." in text(tmp_path / "page" / "index.html")


def test_how_scores_are_read_is_as_for_an_evaluation(truth, tmp_path):
    (tmp_path / "x").mkdir()
    for name, scores in SCORES.items():
        np.save(tmp_path / "x" / f"{name}_pred.npy", scores[::4])
    options = TableOptions(form=ScoreForm(stride=4, suffix="_pred"))
    write_tables_report([Source("x", tmp_path / "x")], truth, tmp_path / "page", options)
    assert "0:04.4 to 0:06.0" in text(tmp_path / "page" / "videos" / "odd.html")
    short = TableOptions(form=ScoreForm(suffix="_pred"))
    with pytest.raises(LengthMismatch, match="25 scores"):
        write_tables_report([Source("x", tmp_path / "x")], truth, tmp_path / "other", short)


@pytest.mark.parametrize("with_truth", [True, False])
def test_videos_that_were_in_quarantine_are_left_out_and_named(truth, tmp_path, with_truth):
    run = make_run(tmp_path, "mine", ("Fighting", "Theft"), {"odd": SCORES["odd"]})
    index = json.loads((run.scores / "index.json").read_text())
    reason = "even.mp4: the file is empty"
    (run.scores / "index.json").write_text(json.dumps(index | {"quarantined": {"even": reason}}))
    said: list[str] = []
    source = Source("mine", run.scores)
    write_tables_report([source], truth if with_truth else None, tmp_path / "page", say=said.append)
    told = text(tmp_path / "page" / "index.html")
    assert reason in told
    assert not (tmp_path / "page" / "videos" / "even.html").exists()
    assert sum(line.startswith("warning: without 1 video(s)") and reason in line for line in said) == with_truth
    if with_truth:
        assert "1 test videos, 1 with an annotated anomaly" in told


def test_scores_of_whole_clips_end_before_the_video(truth, tmp_path):
    short = write_csv(tmp_path / "short", {name: scores[:96] for name, scores in SCORES.items()})
    whole = write_csv(tmp_path / "whole", SCORES)
    options = TableOptions(form=ScoreForm(clip_frames=16))
    write_tables_report([Source("whole", whole), Source("short", short)], truth, tmp_path / "page", options)
    assert "96 frames, 0:09.6" in text(tmp_path / "page" / "videos" / "odd.html")


def page_data(path: Path) -> dict:
    page = path.read_text(encoding="utf-8")
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_without_ground_truth_the_page_shows_what_was_found(tmp_path, make_video):
    """As `gig score` leaves it: an index that names the files, warnings, and a file that could not be read."""
    make_video("a.mp4", frames=100)
    run = make_run(tmp_path, "mine", ("Fighting",), {"a": bump(100, 0.9, 40, 50), "b": bump(100, 0.2, 40, 50)})
    index = json.loads((run.scores / "index.json").read_text())
    index["videos"]["a"] |= {"source": {"path": str(tmp_path / "a.mp4")}, "damage": {"lost": [[3, 5]]}}
    (run.scores / "index.json").write_text(json.dumps(index | {"warnings": ["a stand-in model"]}))
    Quarantine(run.scores / "quarantine").add("c.avi", "c.avi", "test", PipelineError("c.avi: it is no video"))
    said: list[str] = []
    write_tables_report([Source("mine", run.scores)], None, tmp_path / "page", say=said.append)
    assert said == ["note: a stand-in model"]
    told = text(tmp_path / "page" / "index.html")
    assert "What was found in 2 videos without ground truth" in told
    assert "a stand-in model" in told
    assert "c.avi: it is no video" in told
    assert "event, score 0.90 at 0:04.0" in told
    assert "no event, at most 0.20 at 0:04.0" in told
    for word in ("AUC", "Curves", "metrics", "annotated", "normal", "missed", "alarm"):
        assert word not in told.partition("The configuration")[0], word
    page = text(tmp_path / "page" / "videos" / "a.html")
    assert " 1 event " in page
    assert "Fighting" in page
    assert "2 frames could not be decoded: 3 to 4" in page
    for word in ("normal", "annotated", "missed", "alarm"):
        assert word not in page, word
    assert f'src="file://{tmp_path}/a.mp4"' in (tmp_path / "page" / "videos" / "a.html").read_text()
    assert (tmp_path / "page" / "pictures" / "a-40.jpg").exists()
    assert "nothing says where it lies" in text(tmp_path / "page" / "videos" / "b.html")
    facts = page_data(tmp_path / "page" / "index.html")
    assert [one[7] for one in facts["scores"][0]] == [1, 0]  # events
    assert [one[9:] for one in facts["scores"][0]] == [[[0], 1.0], [[], 0]]  # classes raised, seconds


def test_times_are_those_of_the_tables_then_a_stated_rate_then_numbers_of_frames(tmp_path):
    scores = {"v": bump(100, 0.9, 40, 50)}
    stamped = write_csv(tmp_path / "stamped", scores, time_s=np.arange(100) / 5)
    plain = write_csv(tmp_path / "plain", scores)
    write_tables_report([Source("x", stamped)], None, tmp_path / "one", TableOptions(fps=50.0))
    assert "0:08.0 to 0:10.0" in text(tmp_path / "one" / "videos" / "v.html")
    write_tables_report([Source("x", plain)], None, tmp_path / "two", TableOptions(fps=50.0))
    assert "0:00.8 to 0:01.0" in text(tmp_path / "two" / "videos" / "v.html")
    said: list[str] = []
    write_tables_report([Source("x", plain)], None, tmp_path / "three", say=said.append)
    assert [line for line in said if "Nothing says when the frames of v are shown" in line]
    page = text(tmp_path / "three" / "videos" / "v.html")
    assert "frames 40 to 49" in page
    assert "100 frames Source" in page  # its length, and no time
    assert "gaps of up to" not in page
    assert page_data(tmp_path / "three" / "videos" / "v.html")["timed"] is False


def test_scores_that_are_no_shares_are_shown_from_lowest_to_highest(truth, tmp_path):
    source = Source("logits", write_csv(tmp_path / "x", {name: 10 * scores - 2 for name, scores in SCORES.items()}))
    said: list[str] = []
    write_tables_report([source], truth, tmp_path / "page", say=said.append)
    assert any("The scores of logits lie from -1 to 7" in line for line in said)
    facts = page_data(tmp_path / "page" / "index.html")
    assert facts["scores"][0][1][2] == 1.0  # the highest score of `odd`
    assert " 1 of 1 found" in text(tmp_path / "page" / "videos" / "odd.html")


@pytest.mark.parametrize(
    ("scores", "said"),
    [({"v": bump(100, 0.9, 4, 5), "w": bump(9, 0.1, 0, 0)}, "of them has w"), ({"v": np.full(100, np.nan)}, "frame 0")],
)
def test_scores_of_other_videos_and_scores_that_are_no_numbers_are_errors(tmp_path, scores, said):
    one, other = write_csv(tmp_path / "one", {"v": bump(100, 0.9, 4, 5)}), write_csv(tmp_path / "other", scores)
    with pytest.raises(PipelineError, match=said):
        write_tables_report([Source("one", one), Source("other", other)], None, tmp_path / "page")


def gig(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_command_names_the_file_to_open(truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "x", SCORES)
    code, said = gig("report", "--html", "--scores", "x", "--scores", "again=x", "--truth", "truth")
    assert code == 0, said
    page = tmp_path / "x-again-report" / "index.html"
    assert f"page: {page}" in said
    assert text(page).startswith("x, again: results")
    code, said = gig("report", "--html", "--scores", "x", "--scores", "again=x", "--truth", "truth")
    assert code == 1
    assert "is there already" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scores", "x"], "go with --html"),
        (["--html", "--truth", "truth"], "go with --scores"),
        (["--html", "--stride", "4"], "go with --scores"),
        (["--html", "--scores", "x", "--relations"], "it has no --scores"),
        (["--html", "--scores", "x", "--scores", "x"], "a name of its own"),
        (["--html", "--scores", "nothing=here"], "found none there"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "x", SCORES)
    code, output = gig("report", *arguments)
    assert code == 1
    assert said in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]
