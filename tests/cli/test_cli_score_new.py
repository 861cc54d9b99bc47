"""`gig score-new`: its defaults, and its exit codes."""

from __future__ import annotations

import datetime
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pipeline.cli.main import main
from pipeline.stages.detector.detector import Detector
from pipeline.stages.nightly import night as nightly
from pipeline.stages.nightly.days import Day, Left


def day_of(night: nightly.Night, failed: dict[str, str], left: tuple[Left, ...]) -> Day:
    return Day(
        date=night.date,
        detector={"name": "night", "seal": "0"},
        inbox=night.inbox,
        zone=night.zone,
        settle_s=night.settle_s,
        started="",
        finished="",
        seen=1,
        unchanged=0,
        scored=1,
        moved=0,
        copies=0,
        failed=failed,
        still_failing=(),
        left=left,
        later=0,
        unreachable=(),
        passed_over=0,
        passed_over_first=(),
        events={"anomaly": 2, "Fighting": 1},
        hours=0.5,
        warnings=(),
    )


@pytest.fixture
def gig(tmp_path, monkeypatch):
    """Run the command with a detector that is none, and a day of which this much went wrong."""
    monkeypatch.setattr(Detector, "load", lambda *rest, **more: SimpleNamespace(document=SimpleNamespace(warnings=())))
    (tmp_path / "d.safetensors").touch()
    nights: list[nightly.Night] = []

    def run(*options: str, failed: dict[str, str] | None = None, left: tuple[Left, ...] = ()):
        def score_new(detector, night, progress, say):
            nights.append(night)
            return day_of(night, failed or {}, left)

        monkeypatch.setattr(nightly, "score_new", score_new)
        arguments = ["score-new", "--detector", str(tmp_path / "d.safetensors"), "--out", str(tmp_path / "out")]
        return CliRunner().invoke(main, [*arguments, *options, "inbox"])

    run.nights, run.out = nights, tmp_path / "out"
    return run


def yesterday() -> datetime.date:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date() - datetime.timedelta(days=1)


def test_the_day_is_yesterday_in_the_time_zone(gig):
    a_day_ago = yesterday()
    result = gig()
    assert result.exit_code == 0, result.output
    night = gig.nights[-1]
    assert a_day_ago <= night.date <= yesterday()  # the same, but at midnight
    assert (night.inbox, night.settle_s, night.zone) == (("inbox",), 60.0, "UTC")
    assert result.stdout.splitlines() == [str(gig.out / "pages" / str(night.date) / "index.html")]
    assert "1 scored, 0 moved, 0 copies, 0 could not be scored" in result.stderr
    assert "3 event(s), 2 of them of anomaly in general" in result.stderr
    assert gig("--date", "2026-02-28", "--settle-s", "5", "--zone", "Asia/Tokyo").exit_code == 0
    assert (gig.nights[-1].date, gig.nights[-1].settle_s) == (datetime.date(2026, 2, 28), 5.0)
    assert gig("--zone", "Middle/Earth").exit_code == 1
    assert gig("--date", "yesterday").exit_code == 2


def test_what_went_wrong_makes_the_command_fail(gig):
    bad = {"bad.mp4": "no video"}
    result = gig(failed=bad)
    assert (result.exit_code, "bad.mp4: no video" in result.stderr) == (1, True)
    assert gig("--machine", "max_quarantined=1", failed=bad).exit_code == 0
    growing = Left("a.mp4", "/a.mp4", "still being written?", "", 1, 0.0)
    assert gig(left=(growing,)).exit_code == 0
    result = gig(left=(Left("b.mp4", "/b.mp4", "cannot be read (Permission denied)", "", None, 0.0, problem=True),))
    assert (result.exit_code, "b.mp4: cannot be read (Permission denied)" in result.stderr) == (1, True)
