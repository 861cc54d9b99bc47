"""A night: every content is scored once, on one day; days that are complete do not change."""

from __future__ import annotations

import datetime
import os
import threading

import pytest
from nights import FIRST, NOON, contents, iso

from pipeline.errors import OutputError, PipelineError
from pipeline.stages.nightly import running as nightly
from pipeline.stages.nightly.days import day_path, read_day
from pipeline.stages.nightly.looks import Look, day_of, find_zone


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
    assert not (nights.out / ".work").exists()


def test_what_a_stopped_run_has_finished_serves_the_run_of_another_day(nights, monkeypatch):
    for name in ("a", "b", "c"):
        nights.put(f"{name}.mp4", 4 * name)
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "score_sources", lambda *rest, **more: nights.score(*rest, **more, stop_at="c.mp4"))
        with pytest.raises(KeyboardInterrupt):
            nights.run(0)
    assert nights.run(1).scored == 3
    assert nights.scored == ["c.mp4"]
    assert not (nights.out / ".work").exists()


def test_a_day_that_was_not_completed_is_not_scored_twice_when_a_later_one_runs(nights, monkeypatch):
    nights.put("a.mp4", "aaaa")
    nights.run(0)
    nights.put("b.mp4", "bbbb", 1)
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "write_day", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            nights.run(1)
    assert (nights.out / "scores" / f"date={iso(1)}").exists()
    assert nights.run(2).scored == 1
    assert nights.names() == {iso(0): ["a.mp4"], iso(2): ["b.mp4"]}
    for kind in ("scores", "events", "files"):
        assert sorted(path.name for path in (nights.out / kind).iterdir()) == [f"date={iso(0)}", f"date={iso(2)}"]


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
    assert not (nights.out / ".work").exists()
    assert f'href="pages/{iso(0)}/index.html"' in (nights.out / "index.html").read_text()


def test_a_dataset_is_of_one_detector_and_lies_outside_the_inbox(nights):
    nights.run(0)
    nights.seal = "b" * 64
    with pytest.raises(OutputError, match=r"other settings; give another --out\n  detector\.seal"):
        nights.run(1)
    assert read_day(nights.out, FIRST + datetime.timedelta(days=1)) is None
    with pytest.raises(OutputError, match="was scored by night, seal aaaa.*got night, seal bbbb"):
        nights.run(0)  # complete, but not by this one
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
    assert not any("days were those of" in line for line in nights.said)
    nights.run(2)
    assert "warning: days were those of Europe/Berlin before, and are those of UTC now" in nights.said


def test_days_of_a_time_zone_begin_at_its_midnight_when_clocks_change():
    zone = find_zone("Europe/Berlin")  # on 2026-10-25 a day has 25 hours, the hour from 2:00 comes twice
    for utc, day in (("24T21:59", 24), ("24T22:00", 25), ("25T00:30", 25), ("25T01:30", 25), ("25T22:59", 25)):
        time_s = datetime.datetime.fromisoformat(f"2026-10-{utc}:00+00:00").timestamp()
        assert day_of(Look("v", 1, time_s, time_s), None, 4e9, zone) == datetime.date(2026, 10, day)
    time_s = datetime.datetime.fromisoformat("2026-10-25T23:00:00+00:00").timestamp()
    assert day_of(Look("v", 1, time_s, time_s), None, 4e9, zone) == datetime.date(2026, 10, 26)


def test_a_missing_day_takes_its_own_files_when_it_is_caught_up(nights):
    for day in range(3):
        nights.put(f"{day}.mp4", f"{day}" * 4, day)
    for day in range(3):
        nights.run(day)
    assert nights.names() == {iso(day): [f"{day}.mp4"] for day in range(3)}
