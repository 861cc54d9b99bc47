"""Which files of an inbox a night takes, recognises, leaves, and cannot read."""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from nights import CLASSES, DAY_S, NOON, iso, scores_of

from pipeline.data.decoding.decode import content_sha256
from pipeline.errors import PipelineError, QuarantineExceeded
from pipeline.stages.nightly import running as nightly
from pipeline.stages.nightly.ledger import Ledger
from pipeline.stages.nightly.looks import Look, look_at
from pipeline.stages.nightly.night import check_day
from pipeline.stages.scoring.inputs import Inputs
from pipeline.stages.scoring.score_loose import quarantine_of
from pipeline.stages.scoring.sources import LocalVideo, RemoteVideo
from pipeline.stages.scoring.video_scores import table_path, write_scores


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


def test_a_clock_that_was_wrong_for_a_night_keeps_no_file_from_being_taken(nights):
    path = nights.put("a.mp4", "aaaa")
    now_s = nights.now_s
    os.utime(path, (now_s + 9000 * DAY_S,) * 2)
    nights.now_s = now_s + 4000 * DAY_S  # ten years too late
    assert len(nights.run(0).left) == 1
    nights.now_s = now_s
    assert len(nights.run(nights.today).left) == 1
    nights.now_s += DAY_S
    assert nights.run(nights.today).scored == 1


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
    assert Ledger.load(nights.out, "9999").scored[rows[0]["sha256"]].path == str(nights.inbox / "b.mp4")
    shutil.copy(nights.inbox / "b.mp4", nights.inbox / "c.mp4")
    os.utime(nights.inbox / "c.mp4", (NOON + nights.today * DAY_S,) * 2)
    day = nights.run(nights.today - 1)
    assert (day.scored, day.moved, day.copies) == (0, 0, 0)  # it came later
    day = nights.run(nights.today)
    assert (day.scored, day.moved, day.copies) == (0, 0, 1)
    nights.put("d.mp4", "aaaa")
    (nights.inbox / "b.mp4").rename(nights.inbox / "e.mp4")
    day = nights.run(3)
    assert (day.scored, day.moved, day.copies) == (0, 1, 1)


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


@pytest.mark.parametrize("modified_s", [1.79e12, float("inf"), float("nan"), -1e12])
def test_a_time_that_no_calendar_has_says_nothing(nights, monkeypatch, modified_s):
    video = RemoteVideo("a.mp4", "memory://night/a.mp4", 4, "v1", modified_s)
    assert look_at(video) == Look("v1", 4, None, None)
    monkeypatch.setattr(nightly, "find_videos", lambda *rest: Inputs((video,), (), ()))
    nights.now_s = NOON
    assert [left.reason[:34] for left in nights.run(0).left] == ["nothing says when it was changed: "]


def test_a_table_that_a_stopped_run_left_of_another_object_is_made_again(nights, monkeypatch):
    first, second = (RemoteVideo("a.mp4", f"memory://{place}/a.mp4", 4, "v1", NOON) for place in ("one", "two"))
    facts = {"source": {"sha256": "0" * 64, "path": first.place}, "damage": None}
    table = table_path(nights.out / ".work", "a.mp4")
    seen = []

    def score(scorer, videos, folder, **more):
        seen.append(table.exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(nightly, "score_sources", score)
    for video in (first, second):
        write_scores(table.parent.parent, "a.mp4", scores_of(4), CLASSES, facts)
        monkeypatch.setattr(nightly, "find_videos", lambda *rest, video=video: Inputs((video,), (), ()))
        with pytest.raises(KeyboardInterrupt):
            nights.run(0)
    assert seen == [True, False]
