"""docs/own-videos.md as printed: its two lists and its configuration, on small generated videos."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import luigi
import pytest
import yaml
from click.testing import CliRunner, Result
from places import ROOT

from pipeline.cli.main import main
from tasks import EvaluateAll

PAGE = ROOT / "docs" / "own-videos.md"


@pytest.fixture
def example(tmp_path, make_video, monkeypatch) -> None:
    """What the page has people write, in the working folder; only the backbone is the small one that it names for a
    trial."""
    videos, annotations, experiment, *_ = re.findall(
        r"```(?:yaml)?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"clips/\w+\.mp4", videos):
        make_video(f"data/mine/{name}", frames=310 if "v005" in name else 40)
    Path("data/mine/videos.csv").write_text(textwrap.dedent(videos))
    Path("data/mine/annotations.csv").write_text(textwrap.dedent(annotations))
    data = yaml.safe_load(textwrap.dedent(experiment)) | {"backbone": {"name": "tpn_tiny", "weights": "bundled"}}
    Path("configs").mkdir()
    Path("configs/mine.yaml").write_text(yaml.safe_dump(data))


def gig(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def test_the_example_is_sound_before_anything_is_extracted(example):
    result = gig("config check --config configs/mine.yaml")
    assert result.exit_code == 0, result.stderr
    assert "data set: 4 train and 2 test videos, 1 interval(s)" in result.stdout
    assert "warning" not in result.stderr


@pytest.mark.slow
def test_the_example_runs_to_the_scores_of_new_videos(example, make_video):
    assert luigi.build([EvaluateAll(config="configs/mine.yaml")], local_scheduler=True, log_level="ERROR")
    assert [path.stem for path in sorted(Path().glob("var/mine/scores-gig-*/frames/*"))] == ["v005", "v006"]
    assert len(list(Path().glob("var/mine/evaluation-gig-*"))) == 1
    assert "tpn_tiny" in gig("report --config configs/mine.yaml").stdout
    for name in ("new1.mp4", "new2.mp4"):
        make_video(name, frames=20)
    assert gig("score --config configs/mine.yaml --csv new1.mp4 new2.mp4").exit_code == 0
    assert len(list(Path("scores").rglob("*.csv"))) == 2
