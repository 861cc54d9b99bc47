"""The page of a day and the list of all days. What a page shows lies beside it, so that it can be written again when a
neighbouring day is complete."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.data.events import ANOMALY, Event
from pipeline.errors import OutputError, PipelineError
from pipeline.metrics.hysteresis import EventRule
from pipeline.progress import Progress, Say
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.nightly.collecting import Shown
from pipeline.stages.nightly.dataset import File, read_times
from pipeline.stages.nightly.days import Day, complete_dates, read_day
from pipeline.stages.nightly.looks import find_zone
from pipeline.stages.report.events import rule_in_words
from pipeline.stages.report.pages import write_page
from pipeline.stages.report.pictures import Patience, picture_path, write_pictures
from pipeline.stages.report.playing import link
from pipeline.stages.report.wording import clock

__all__ = ["page_folder", "write_day_page", "write_pages_around"]

MOST_SHOWN = 60
"""Events with the highest scores that the page shows, each with a picture."""
PICTURES_S, PICTURES_OF_VIDEO_S = 120.0, 15.0
"""For so long is decoded for pictures in all and of one video at a time."""
FACTS = "page.json"


def page_folder(folder: Path, date: datetime.date) -> Path:
    """Where the page of a day lies."""
    return folder / "pages" / date.isoformat()


def write_day_page(
    folder: Path,
    day: Day,
    shown: Sequence[Shown],
    files: Sequence[File],
    rules: Mapping[str, EventRule],
    progress: Progress,
    say: Say,
) -> None:
    """Make the pictures of a day and write its page.

    Args:
        folder: of the dataset.
        day: its record.
        shown: the scored videos.
        files: rows of all files of the day.
        rules: by which events were found.
        progress: told which pictures are made.
        say: told of pictures that could not be made.
    """
    page = page_folder(folder, day.date)
    moments = sorted((m for video in shown for m in _moments(video)), key=lambda moment: -moment.event.peak_score)
    chosen = moments[:MOST_SHOWN]
    _write_pictures(folder, day, shown, chosen, progress, say)
    videos = [[v.file.video_id, v.curve, max(v.file.duration_s, 0.001), _spans(v.events)] for v in shown if v.curve]
    facts = {
        "date": day.date.isoformat(),
        "detector": day.detector["name"],
        "summary": _summary(day),
        "notes": [*day.warnings, *day.unreachable],
        "tiles": _tiles(day),
        "rule": rule_in_words(rules, with_truth=False),
        "moments": [_told(folder, page, moment) for moment in chosen],
        "more_events": len(moments) - len(chosen),
        "scored": [_scored(folder, page, day, video) for video in shown if video.curve],
        "known": [(file.video_id, _recognised(file)) for file in files if file.state in ("moved", "copy")],
        "failed": list(day.failed.items()),
        "still_failing": list(day.still_failing),
        "left": [(left.video_id, left.reason, left.problem) for left in day.left],
        "later": day.later,
        "run_facts": _run_facts(day),
    }
    page.mkdir(parents=True, exist_ok=True)
    with whole_file(page / FACTS) as partial:
        partial.write_text(json.dumps({"facts": facts, "data": {"videos": videos}}), encoding="utf-8")
    _render(folder, day.date)


def write_pages_around(folder: Path, date: datetime.date) -> None:
    """Write the list of days, and again the pages of a complete day and of those before and after it, which lead to
    each other."""
    dates = complete_dates(folder)
    place = dates.index(date)
    for other in dates[max(0, place - 1) : place + 2]:
        _render(folder, other)
    days = [day for other in reversed(dates) if (day := read_day(folder, other)) is not None]
    rows = [
        {
            "date": day.date.isoformat(),
            "scored": day.scored,
            "footage": clock(day.hours * 3600),
            "events": day.events[ANOMALY],
            "failed": len(day.failed),
            "left": len(day.left),
        }
        for day in days
    ]
    hours = sum(day.hours for day in days)
    summary = (
        f"{len(days)} day{'' if len(days) == 1 else 's'}, {sum(day.scored for day in days)} videos scored, "
        f"{clock(hours * 3600)} of footage."
    )
    facts = {"detector": days[0].detector["name"], "summary": summary, "days": rows}
    write_page(folder / "index.html", "days", facts, {})


def _render(folder: Path, date: datetime.date) -> None:
    path = page_folder(folder, date) / FACTS
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        facts, data = page["facts"], page["data"]
    except FileNotFoundError:
        return  # someone has removed the page of an old day
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: not what a page shows ({error!r}); remove it") from error
    dates = [other for other in complete_dates(folder) if (page_folder(folder, other) / FACTS).exists()]
    before = max((other for other in dates if other < date), default=None)
    after = min((other for other in dates if other > date), default=None)
    around = {"before": before and before.isoformat(), "after": after and after.isoformat()}
    write_page(path.parent / "index.html", "day", facts | around, data)


@dataclass(frozen=True)
class _Moment:
    """An event as the page shows it: with the classes raised in it, and the frame at its peak."""

    event: Event
    classes: list[str]
    frame: int


def _moments(video: Shown) -> list[_Moment]:
    """The events of anomaly in general with the classes raised in them, and those of a class outside of them."""
    both = list(zip(video.events, video.peaks, strict=True))
    general = [_Moment(event, [], peak) for event, peak in both if event.class_name == ANOMALY]
    others = []
    for event, peak in both:
        if event.class_name == ANOMALY:
            continue
        over = [m for m in general if m.event.start_s < event.end_s and event.start_s < m.event.end_s]
        for moment in over:
            if event.class_name not in moment.classes:
                moment.classes.append(event.class_name)
        if not over:
            others.append(_Moment(event, [event.class_name], peak))
    return general + others


def _write_pictures(
    folder: Path, day: Day, shown: Sequence[Shown], moments: Sequence[_Moment], progress: Progress, say: Say
) -> None:
    """Pictures at the peaks of the events, as far as they can be made in the time that there is."""
    patience, missing = Patience(PICTURES_OF_VIDEO_S, PICTURES_S), []
    places = {video.file.video_id: video.file.path for video in shown}
    wanted: dict[str, list[int]] = {}
    for moment in moments:
        wanted.setdefault(moment.event.video_id, []).append(moment.frame)
    for number, (video_id, frames) in enumerate(wanted.items()):
        if "://" in places[video_id]:
            missing.append(f"{video_id}: its copy is gone")
            continue
        progress(number, len(wanted), f"pictures of {video_id}")
        try:
            times_s = read_times(folder, day.date, video_id)
            pictures = page_folder(folder, day.date) / "pictures"
            write_pictures(pictures, video_id, Path(places[video_id]), frames, times_s, patience)
        except (PipelineError, OSError, ValueError) as error:
            missing.append(f"{video_id}: {error}")
    if missing:
        more = f", and of {len(missing) - 1} more" if len(missing) > 1 else ""
        say(f"no pictures of {missing[0]}{more}")


def _told(folder: Path, page: Path, moment: _Moment) -> dict[str, Any]:
    event = moment.event
    picture = picture_path(page / "pictures", event.video_id, moment.frame)
    return {
        "name": event.video_id,
        "href": _href(folder, page, event.source, event.start_s),
        "span": f"{clock(event.start_s, 1)} to {clock(event.end_s, 1)}",
        "score": event.peak_score,
        "classes": moment.classes,
        "picture": f"pictures/{quote(picture.name)}" if picture.exists() else "",
    }


def _scored(folder: Path, page: Path, day: Day, video: Shown) -> dict[str, Any]:
    file = video.file
    changed = f"{file.modified.astimezone(find_zone(day.zone)):%Y-%m-%d %H:%M}" if file.modified else "not known"
    classes = dict.fromkeys(event.class_name for event in video.events if event.class_name != ANOMALY)
    return {
        "name": file.video_id,
        "href": _href(folder, page, file.path),
        "damage": file.damage,
        "classes": list(classes),
        "changed": changed,
        "length": clock(file.duration_s),
        "peak": f"{file.peak_score:.2f}",
        "events": file.events,
    }


def _href(folder: Path, page: Path, place: str, start_s: float | None = None) -> str:
    """Where a browser finds a video, and from when it plays; "" of a storage that it does not reach."""
    moment = "" if start_s is None else f"#t={max(0.0, start_s - 1):.1f}"
    if place.startswith(("http://", "https://")):
        return place + moment
    if "://" in place or Path(place).is_dir():
        return ""
    return link(Path(place), page, folder) + moment


def _spans(events: Sequence[Event]) -> list[list[float]]:
    return [[round(e.start_s, 2), round(e.end_s, 2)] for e in events if e.class_name == ANOMALY]


def _recognised(file: File) -> str:
    what = "its content lies here under another name too" if file.state == "copy" else "moved, or given a new time"
    return f"{what}; scored as {file.scored_id}, in the scores of {file.scored_date}"


def _summary(day: Day) -> str:
    came = day.seen - day.unchanged - day.later
    files = "1 new file" if came == 1 else f"{came} new files"
    return f"{files} in the inbox, {clock(day.hours * 3600)} of footage scored by {day.detector['name']}."


def _tiles(day: Day) -> list[tuple[str, str, str]]:
    waiting = sum(not left.problem for left in day.left)
    troubled = len(day.left) - waiting
    of_classes = sum(count for name, count in day.events.items() if name != ANOMALY)
    tiles = [
        ("Scored", str(day.scored), f"{clock(day.hours * 3600)} of footage"),
        ("Events", str(day.events[ANOMALY]), f"and {of_classes} of classes"),
        ("Recognised", str(day.moved + day.copies), f"{day.moved} moved, {day.copies} copies"),
        ("Not readable", str(len(day.failed)), f"{len(day.still_failing)} from earlier days"),
        ("Left for later", str(waiting + troubled), f"{troubled} to look after" if troubled else "still being written"),
    ]
    return tiles if day.left else [*tiles[:-1], ("Left for later", "0", f"{day.later} of later days")]


def _run_facts(day: Day) -> list[tuple[str, str]]:
    return [
        ("Detector", f"{day.detector['name']}, seal {day.detector['seal']}"),
        ("Inbox", ", ".join(day.inbox)),
        ("Files in it", f"{day.seen}, of which {day.unchanged} were dealt with on earlier days and have not changed"),
        ("Passed over", _passed_over(day)),
        ("The day", f"files last changed until the end of {day.date} ({day.zone}), which no earlier run has scored"),
        ("Settled", f"not changed for {day.settle_s:g} s"),
        ("Run", f"{day.started} to {day.finished}"),
        ("Tables", f"scores/date={day.date}, events/date={day.date}, files/date={day.date}"),
    ]


def _passed_over(day: Day) -> str:
    if not day.passed_over:
        return "nothing"
    more = day.passed_over - len(day.passed_over_first)
    return ", ".join(day.passed_over_first) + (f" and {more} more" if more else "") + ": no video, or hidden"
