"""A night: every content is scored once, on one day; days that are complete do not change."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from places import ROOT

from pipeline.data.decoding.decode import content_sha256
from pipeline.errors import DecodeError, OutputError, PipelineError, QuarantineExceeded
from pipeline.metrics.hysteresis import EventRule
from pipeline.stages.nightly import running as nightly
from pipeline.stages.nightly.days import complete_dates, day_path, read_day
from pipeline.stages.nightly.ledger import Ledger
from pipeline.stages.nightly.night import Night, check_day, score_new
from pipeline.stages.scoring.score import VideoScores, write_scores
from pipeline.stages.scoring.score_loose import ScoreReport, quarantine_of
from pipeline.stages.scoring.sources import LocalVideo

CLASSES = ("Fighting", "Robbery")
DAY_S = 86400
FIRST = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date() - datetime.timedelta(days=20)
NOON = datetime.datetime.combine(FIRST, datetime.time(12), datetime.UTC).timestamp()


def iso(day: int) -> str:
    """A day, counted from the first one; today is about 20."""
    return (FIRST + datetime.timedelta(days=day)).isoformat()


@dataclass
class Nights:
    """An inbox, a dataset, a clock, and a stand-in for the detector that notes what it scores."""

    folder: Path
    now_s: float = field(default_factory=lambda: time.time() + 3600)
    scored: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seal: str = "a" * 64

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def today(self) -> int:
        """The number of the day that it is by the clock."""
        return (datetime.datetime.fromtimestamp(self.now_s, datetime.UTC).date() - FIRST).days

    def put(self, name: str, content: str, day: int = 0) -> Path:
        """A file that was last changed at noon of a day, counted from the first one."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (NOON + day * DAY_S,) * 2)
        return path

    def run(self, day: int = 0, **changes: object):
        """The run of a day, counted from the first one."""
        self.scored.clear()
        self.inbox.mkdir(exist_ok=True)
        rules = {name: EventRule(0.5, 0.4, 0.0, 0.0) for name in ("anomaly", *CLASSES)}
        made_with = {"detector": {"seal": self.seal}}
        about = {"classes": list(CLASSES), "detector": {"seal": self.seal}}
        detector = SimpleNamespace(
            classes=CLASSES,
            rules=rules,
            seal=self.seal,
            document=SimpleNamespace(name="night", warnings=("It has learnt nothing.",)),
            notes=list,
            scorer=lambda: SimpleNamespace(made_with=made_with, about=about),
        )
        date = FIRST + datetime.timedelta(days=day)
        night = Night(date, (str(self.inbox),), self.out, 60.0, now_s=lambda: self.now_s)
        return score_new(detector, replace(night, **changes), say=self.said.append)

    def names(self) -> dict[str, list[str]]:
        """The videos with scores, by day."""
        table = ds.dataset(self.out / "scores", partitioning="hive").to_table(columns=["date", "video_id"])
        found: dict[str, set[str]] = {date.isoformat(): set() for date in complete_dates(self.out)}
        for row in table.to_pylist():
            found[row["date"]].add(row["video_id"])
        return {date: sorted(names) for date, names in found.items()}

    def score(self, scorer, videos, folder, *, progress, say, known, stop_at: str | None = None) -> ScoreReport:
        """In place of scoring: as many frames as the content has letters; one that begins with `bad` cannot be read."""
        done, failed = [], {}
        for video in videos:
            path = folder / "frames" / f"{video.name.replace('/', '=2f')}.parquet"
            if video.name == stop_at:
                raise KeyboardInterrupt
            if video.file.read_text().startswith("bad"):
                error = DecodeError(f"{video.place}: no video")
                failed[video.name] = str(error)
                quarantine_of(folder).add(video.name, video.place, "test", error)
                continue
            if not path.exists():
                self.scored.append(video.name)
                frames = np.linspace(0, 1, len(video.file.read_text()), dtype=np.float32)
                scores = VideoScores(
                    np.column_stack([frames, frames / 3]),
                    frames,
                    np.arange(len(frames)) / 10,
                    np.zeros((1, 3), np.float32),
                    np.zeros((1, 2), np.int64),
                    np.zeros((1, 0), np.int64),
                )
                facts = {"source": {"sha256": content_sha256(video.file), "path": video.place}, "damage": None}
                write_scores(folder, video.name, scores, CLASSES, facts)
            done.append(path)
        return ScoreReport(tuple(done), tuple(self.scored), (), (), failed)


@pytest.fixture
def nights(tmp_path, monkeypatch) -> Nights:
    found = Nights(tmp_path)
    monkeypatch.setattr(nightly, "score_sources", found.score)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_goes_to_its_day_and_a_late_one_to_the_next_that_runs(nights):
    nights.put("a.mp4", "aaaa", 0)
    nights.put("b.mp4", "bbbbb", 1)
    day = nights.run(0)
    assert (day.scored, day.later, nights.scored) == (1, 1, ["a.mp4"])
    nights.put("late.mp4", "late", 0)  # its day is complete
    nights.run(1)
    assert nights.scored == ["b.mp4", "late.mp4"]
    assert nights.names() == {iso(0): ["a.mp4"], iso(1): ["b.mp4", "late.mp4"]}
    day = nights.run(2)
    assert (day.scored, day.unchanged, nights.scored) == (0, 3, [])


def test_a_day_that_is_run_again_changes_nothing(nights):
    nights.put("a.mp4", "aaaa")
    first = nights.run()
    before = contents(nights.out)
    nights.put("b.mp4", "bbbb")
    assert nights.run() == first
    assert contents(nights.out) == before
    assert any(f"{iso(0)} is complete since" in text for text in nights.said)


def test_runs_that_overlap_make_a_day_once(nights):
    nights.put("a.mp4", "aaaa")
    days = []
    threads = [threading.Thread(target=lambda: days.append(nights.run())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert days == [days[0]] * 3
    assert nights.names() == {iso(0): ["a.mp4"]}


def test_an_empty_day_has_the_columns_of_the_others(nights):
    nights.run(0)
    nights.put("Cam 1/_a=b.mp4", "aaaa", 1)
    nights.put("_c.mp4", "cccc", 1)
    nights.run(1)
    for kind in ("scores", "events", "files"):
        paths = sorted((nights.out / kind).rglob("*.parquet"))
        assert {path.parent.name for path in paths} == {f"date={iso(0)}", f"date={iso(1)}"}
        schemas = [pq.read_schema(path) for path in paths]
        assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
        assert not any(pa.types.is_null(column.type) for column in schemas[0])
    assert nights.names() == {iso(0): [], iso(1): ["Cam 1/_a=b.mp4", "_c.mp4"]}


def test_a_file_that_is_being_written_is_left_and_named(nights):
    path = nights.put("a.mp4", "aaaa")
    nights.now_s = path.stat().st_ctime + 10
    nights.put("later.mp4", "more", 0)
    day = nights.run(date=datetime.datetime.fromtimestamp(nights.now_s, datetime.UTC).date())
    assert sorted(left.video_id for left in day.left) == ["a.mp4", "later.mp4"]
    assert "changed 10 s ago, less than 60 s" in min(day.left, key=lambda left: left.video_id).reason
    assert (day.scored, day.problems) == (0, [])
    nights.now_s += DAY_S
    assert nights.run(date=day.date + datetime.timedelta(days=1)).scored == 2


def test_a_file_that_changes_while_it_is_scored_is_left(nights, monkeypatch):
    path = nights.put("a.mp4", "aaaa")

    def score(*rest, **more):
        report = nights.score(*rest, **more)
        path.write_text("aaaab")
        return report

    monkeypatch.setattr(nightly, "score_sources", score)
    day = nights.run()
    assert (day.scored, [left.video_id for left in day.left]) == (0, ["a.mp4"])
    assert "it changed while it was read" in day.left[0].reason
    assert nights.names() == {iso(0): []}
    monkeypatch.setattr(nightly, "score_sources", nights.score)
    nights.now_s += DAY_S
    assert nights.run(nights.today).scored == 1


def test_a_time_in_the_future_counts_from_when_the_file_was_first_seen(nights):
    nights.put("a.mp4", "aaaa", 1000)
    day = nights.run(nights.today - 1)  # the run of yesterday: the file was not there then, as far as can be told
    assert (day.scored, day.later, [left.video_id for left in day.left]) == (0, 1, ["a.mp4"])
    nights.now_s += DAY_S
    assert nights.run(nights.today - 1).scored == 1


def test_moved_and_copied_files_are_recognised_by_content(nights):
    path = nights.put("a.mp4", "aaaa")
    nights.put("twin.mp4", "aaaa")
    day = nights.run(0)
    assert (day.scored, day.copies) == (1, 1)
    path.rename(nights.inbox / "b.mp4")
    (nights.inbox / "twin.mp4").unlink()
    day = nights.run(1)
    assert (day.scored, day.moved, day.copies, nights.scored) == (0, 1, 0, [])
    rows = pq.read_table(nights.out / "files" / f"date={iso(1)}").to_pylist()
    assert [(row["video_id"], row["state"], row["scored_date"], row["scored_id"]) for row in rows] == [
        ("b.mp4", "moved", iso(0), "a.mp4")
    ]
    assert Ledger.load(nights.out).scored[rows[0]["sha256"]].path == str(nights.inbox / "b.mp4")
    shutil.copy(nights.inbox / "b.mp4", nights.inbox / "c.mp4")
    day = nights.run(nights.today)
    assert (day.scored, day.moved, day.copies) == (0, 0, 1)


def test_an_unchanged_file_is_not_read_again(nights, monkeypatch):
    path = nights.put("a.mp4", "aaaa")
    nights.run(0)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.nightly.sorting.content_sha256", lambda path: pytest.fail("it is not read"))
        assert nights.run(1).unchanged == 1
    os.utime(path, (NOON + 5,) * 2)
    day = nights.run(2)
    assert (day.scored, day.moved) == (0, 1)  # read, for its time has changed, and recognised
    path.write_text("other")
    os.utime(path, (NOON + 5,) * 2)
    assert nights.run(3).scored == 1


def test_what_cannot_be_read_goes_to_quarantine_and_is_tried_again_when_asked_or_changed(nights):
    path = nights.put("bad.mp4", "bad")
    nights.put("a.mp4", "aaaa")
    day = nights.run(0)
    assert (day.scored, list(day.failed)) == (1, ["bad.mp4"])
    assert quarantine_of(nights.out).ids() == ["bad.mp4"]
    with pytest.raises(QuarantineExceeded, match=r"1 video\(s\) could not be scored, machine.max_quarantined is 0"):
        check_day(day, nights.out, 0)
    check_day(day, nights.out, 1)
    day = nights.run(1)
    assert (day.failed, day.still_failing, day.unchanged) == ({}, ("bad.mp4",), 2)
    check_day(day, nights.out, 0)
    quarantine_of(nights.out).clear(["bad.mp4"])
    assert list(nights.run(2).failed) == ["bad.mp4"]
    path.write_text("good")
    os.utime(path, (NOON,) * 2)
    assert nights.run(3).scored == 1
    assert quarantine_of(nights.out).ids() == []


def test_a_file_that_may_not_be_opened_is_a_problem_and_tried_again(nights, monkeypatch):
    nights.put("a.mp4", "aaaa")
    with monkeypatch.context() as patch:

        def refuse(path):
            raise PermissionError(13, "Permission denied")

        patch.setattr("pipeline.stages.nightly.sorting.content_sha256", refuse)
        day = nights.run(0)
    with pytest.raises(PipelineError, match=r"a.mp4: cannot be read \(Permission denied\)"):
        check_day(day, nights.out, 5)
    assert nights.run(1).scored == 1


def test_what_is_no_file_is_named_and_what_is_gone_only_waits(nights, monkeypatch):
    nights.inbox.mkdir()
    os.mkfifo(nights.inbox / "pipe.mp4")
    (nights.inbox / "link.mp4").symlink_to(nights.inbox / "nowhere.mp4")
    nights.put("gone.mp4", "gone")
    original = nightly.find_videos

    def find(*rest):
        found = original(*rest)
        (nights.inbox / "gone.mp4").unlink()
        return found

    monkeypatch.setattr(nightly, "find_videos", find)
    day = nights.run()
    reasons = {left.video_id: (left.reason, left.problem) for left in day.left}
    assert sorted(reasons) == ["gone.mp4", "link.mp4", "pipe.mp4"]
    assert reasons["link.mp4"] == ("it is a link that leads nowhere", True)
    assert "another kind of thing" in reasons["pipe.mp4"][0]
    assert (reasons["gone.mp4"][1], len(day.problems)) == (False, 2)


def test_a_run_that_is_stopped_goes_on_with_what_is_finished(nights, monkeypatch):
    for name in ("a", "b", "c"):
        nights.put(f"{name}.mp4", 4 * name)

    def stopped(*rest, **more):
        return nights.score(*rest, **more, stop_at="c.mp4")

    monkeypatch.setattr(nightly, "score_sources", stopped)
    with pytest.raises(KeyboardInterrupt):
        nights.run()
    assert nights.scored == ["a.mp4", "b.mp4"]
    assert not (nights.out / "scores").exists()  # nothing of half a day is to be seen
    nights.put("b.mp4", "changed")
    monkeypatch.setattr(nightly, "score_sources", nights.score)
    assert nights.run().scored == 3
    assert nights.scored == ["b.mp4", "c.mp4"]
    assert not list((nights.out / ".work").iterdir())


@pytest.mark.parametrize("broken", ["write_day_page", "write_day", "write_pages_around"])
def test_a_run_that_dies_at_its_end_is_repeated_to_the_same_day(nights, monkeypatch, broken):
    nights.put("a.mp4", "aaaa")
    with monkeypatch.context() as patch:
        patch.setattr(nightly, broken, lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            nights.run(0)
    assert day_path(nights.out, FIRST).exists() == (broken == "write_pages_around")
    nights.run(0)
    nights.run(1)
    assert nights.names() == {iso(0): ["a.mp4"], iso(1): []}
    assert [path.name for path in (nights.out / "scores" / f"date={iso(0)}").iterdir()] == ["a.mp4.parquet"]
    assert not list((nights.out / ".work").iterdir())
    assert f'href="pages/{iso(0)}/index.html"' in (nights.out / "index.html").read_text()


def test_a_dataset_is_of_one_detector_and_lies_outside_the_inbox(nights):
    nights.run(0)
    nights.seal = "b" * 64
    with pytest.raises(OutputError, match=r"another head or other settings.*\n  detector\.seal"):
        nights.run(1)
    assert read_day(nights.out, FIRST + datetime.timedelta(days=1)) is None
    with pytest.raises(PipelineError, match="outside the inbox"):
        nights.run(1, folder=nights.inbox / "out")
    with pytest.raises(PipelineError, match="the inbox is not there; the day stays open"):
        nights.run(1, inbox=(str(nights.folder / "none"),))
    with pytest.raises(PipelineError, match="expected today or a day before"):
        nights.run(nights.today + 1)
    with pytest.raises(PipelineError, match="expected a name such as UTC"):
        nights.run(1, zone="Middle/Earth")


def test_the_day_is_that_of_the_time_zone(nights):
    path = nights.put("a.mp4", "aaaa")
    os.utime(path, (NOON + 11.5 * 3600,) * 2)  # 23:30 in UTC
    assert nights.run(0, zone="Europe/Berlin").later == 1
    assert nights.run(1, zone="Europe/Berlin").scored == 1


def test_a_missing_day_takes_its_own_files_when_it_is_caught_up(nights):
    for day in range(3):
        nights.put(f"{day}.mp4", f"{day}" * 4, day)
    for day in range(3):
        nights.run(day)
    assert nights.names() == {iso(day): [f"{day}.mp4"] for day in range(3)}


def test_the_page_says_what_happened_and_leads_to_the_days_around(nights):
    nights.put("<b>a</b>.mp4".replace("/", ""), "aaaaaaaa")
    nights.put("bad.mp4", "bad")
    fresh = nights.put("fresh.mp4", "ffff")
    os.utime(fresh, (nights.now_s - 5,) * 2)
    nights.run(0)
    nights.run(nights.today)
    nights.run(2)
    page = (nights.out / "pages" / iso(0) / "index.html").read_text()
    assert "&lt;b&gt;a&lt;b&gt;.mp4" in page
    assert "<b>a" not in page
    assert "bad.mp4: no video" in page
    assert "It has learnt nothing." in page
    assert f'href="../{iso(2)}/index.html" rel="next"' in page
    middle = (nights.out / "pages" / iso(2) / "index.html").read_text()
    assert f'href="../{iso(0)}/index.html" rel="prev"' in middle
    assert f'href="../{iso(nights.today)}/index.html" rel="next"' in middle
    last = (nights.out / "pages" / iso(nights.today) / "index.html").read_text()
    assert "changed 5 s ago, less than 60 s: still being written?" in last
    assert f'<td class="left wide">{iso(0)} 12:00</td>' in page
    facts = json.loads((nights.out / "pages" / iso(0) / "page.json").read_text())["facts"]
    assert [moment["span"] for moment in facts["moments"]] == ["0:00.3 to 0:00.8"]
    assert facts["moments"][0]["classes"] == ["Fighting"]
    assert facts["moments"][0]["href"].startswith("file://")
    assert facts["moments"][0]["href"].endswith(".mp4#t=0.0")


def test_objects_of_a_storage_are_recognised_by_version_and_then_by_content(nights, monkeypatch):
    import fsspec

    storage = fsspec.filesystem("memory")
    storage.pipe("/night/cam/a.mp4", b"aaaa")
    fetched: list[str] = []

    def score(scorer, videos, folder, *, known, **more):
        here = []
        for video in videos:
            assert not isinstance(video, LocalVideo)
            fetched.append(video.name)
            path = video.fetch(nights.folder / "copies")
            content = content_sha256(path)
            if known(video, content):
                found[video.name] = content
            else:
                here.append(LocalVideo(video.name, path))
        return replace(nights.score(scorer, here, folder, known=known, **more), known=found)

    monkeypatch.setattr(nightly, "score_sources", score)
    now_s = storage.info("/night/cam/a.mp4")["created"].timestamp() + 3600
    today = datetime.datetime.fromtimestamp(now_s, datetime.UTC).date()
    nights.now_s = now_s + 4 * DAY_S
    found: dict[str, str] = {}
    try:
        days = [today + datetime.timedelta(days=number) for number in range(4)]
        assert nights.run(date=days[0], inbox=("memory://night",)).scored == 1
        assert (nights.run(date=days[1], inbox=("memory://night",)).unchanged, fetched) == (1, ["cam/a.mp4"])
        storage.mv("/night/cam/a.mp4", "/night/cam/b.mp4")
        day = nights.run(date=days[2], inbox=("memory://night",))
        assert (day.scored, day.moved, fetched) == (0, 1, ["cam/a.mp4", "cam/b.mp4"])
        assert nights.run(date=days[3], inbox=("memory://night",)).unchanged == 1
    finally:
        storage.rm("/night", recursive=True)


BLOCKS = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"import (\w+)", block)[1])
def test_pandas_dask_and_duckdb_read_all_days_as_one(nights, monkeypatch, block):
    pytest.importorskip(re.search(r"import ([\w.]+)", block)[1])
    nights.put("Cam 1/_a=b.mp4", "aaaaaaaa", 0)
    nights.put("bad.mp4", "bad", 0)
    nights.put("b.mp4", "bbbb", 1)
    for day in range(3):
        nights.run(day, folder=nights.folder / "nightly" / "night")  # the last one is empty
    monkeypatch.chdir(nights.folder)
    names: dict = {}
    exec(compile(block.replace("2026-11-01", iso(0)), "block", "exec"), names)
    if "per_day" in names:  # pandas
        scores = names["scores"]
        assert scores.groupby("date", observed=False).size().to_dict() == {iso(0): 8, iso(1): 4, iso(2): 0}
        assert names["per_day"].to_dict() == {iso(0): 1, iso(1): 1}
        files = names["pd"].read_parquet("nightly/night/files")
        assert {str(files[name].dtype) for name in ("bytes", "frames", "events")} == {"int64"}
    else:
        found = names["highest"] if isinstance(names["highest"], list) else names["highest"].reset_index().to_numpy()
        rows = sorted((str(date), name, round(float(score), 3)) for date, name, score in found)
        assert rows == [(iso(0), "Cam 1/_a=b.mp4", 1.0), (iso(1), "b.mp4", 1.0)]


def test_a_record_that_is_none_is_refused(nights):
    nights.run()
    day_path(nights.out, FIRST).write_text("{}")
    with pytest.raises(OutputError, match="not the record of a day"):
        nights.run()
