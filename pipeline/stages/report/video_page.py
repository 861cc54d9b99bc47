"""The page of one video: its timelines, what is annotated and found, pictures, and facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from cache.names import escape
from pipeline.data.events import ANOMALY, Event
from pipeline.metrics.temporal import runs as maximal_runs
from pipeline.remote import AnyPath
from pipeline.stages.report.events import rule_in_words
from pipeline.stages.report.judging import Verdict
from pipeline.stages.report.pages import write_page
from pipeline.stages.report.pictures import picture_path
from pipeline.stages.report.playing import Media, link
from pipeline.stages.report.results import Results
from pipeline.stages.report.timelines import encode, envelope
from pipeline.stages.report.videos import Judged, telling_frames
from pipeline.stages.report.wording import Wording, file_size

__all__ = ["page_name", "write_video_page"]

PAGE_BINS = 1000
CLASS_BINS = 400
CLASSES_SHOWN = 4
UNTIMED = Media("", False, "nothing says when its frames are shown")
HINT = "The command gig report --html --proxies makes small copies that browsers play."


def page_name(video_id: str) -> str:
    """The file name of a video's page."""
    return f"{escape(video_id)}.html"


def write_video_page(
    folder: Path,
    results: Results,
    judged: Judged,
    media: Media,
    before: str | None,
    after: str | None,
    proxy: Path | None,
) -> None:
    """Write the page of one video to `folder`/videos; it shows the pictures and relation maps that lie in `folder`.

    Args:
        folder: of the whole report.
        results: what the report is about.
        judged: the video.
        media: what a browser can do with it.
        before, after: ids of the videos before and after it.
        proxy: a copy that browsers play, in `folder`, where there is one.
    """
    entry, pages, words = judged.entry, folder / "videos", results.wording
    path = results.video_path(entry.video_id)
    media = media if results.timed else UNTIMED
    tracks = [
        {"title": run.title, "curves": curves}
        for run, curves in zip(results.runs, _tracks(results, judged), strict=True)
    ]
    facts: dict[str, Any] = {
        "experiment": results.experiment,
        "name": entry.video_id,
        "labels": entry.labels or (),
        "with_truth": results.with_truth,
        "verdicts": [
            _verdict(run.title, v, results.with_truth) for run, v in zip(results.runs, judged.verdicts, strict=True)
        ],
        "before": before and {"name": before, "href": quote(page_name(before))},
        "after": after and {"name": after, "href": quote(page_name(after))},
        "media": _media(media, path, pages, results.inside, proxy),
        "duration": judged.duration_s,
        "tracks": tracks,
        "axis": [words.time(judged.duration_s * part / 4, int(judged.duration_s < 60)) for part in range(5)],
        "rules": _rules(results),
        "rows": _rows(results, judged),
        "pictures": _pictures(folder, results, judged),
        "maps": _maps(folder, results, entry.video_id),
        "facts": _facts(results, judged, media),
    }
    data = {
        "timed": results.timed,
        "judged": results.with_truth,
        "duration": round(judged.duration_s, 3),
        "runs": tracks,
    }
    write_page(pages / page_name(entry.video_id), "video", facts, data)


def _rules(results: Results) -> list[str]:
    """The rule of each run; once where all have one."""
    told = [rule_in_words(rules, results.with_truth) for rules in results.rules]
    if len(set(told)) == 1:
        return told[:1]
    return [f"{run.title}: {rule}" for run, rule in zip(results.runs, told, strict=True)]


def _verdict(title: str, verdict: Verdict, with_truth: bool) -> tuple[str, str, str]:
    """A run's title, whether it is good or bad, and what it found."""
    total, false = len(verdict.hits) + len(verdict.misses), len(verdict.false_alarms)
    if not with_truth:
        return title, "event" if false else "", f"{false or 'no'} event{'' if false == 1 else 's'}"
    said = [f"{len(verdict.hits)} of {total} found"] if total else []
    if false or not said:
        said.append(f"{false} false alarm{'' if false == 1 else 's'}" if false else "no false alarm")
    return title, "bad" if verdict.misses or false else "good", ", ".join(said)


def _media(media: Media, path: AnyPath | None, pages: Path, inside: Path, proxy: Path | None) -> dict[str, str]:
    if proxy:
        note = "A small copy stands in for the video, which browsers do not play."
        return {"url": f"../{quote(str(proxy.relative_to(pages.parent)))}", "hint": "", "note": note, "reason": ""}
    if media.playable and path:
        url = link(path, pages, inside)
        return {"url": url, "hint": HINT, "note": "", "reason": ""}
    return {"url": "", "hint": HINT if media.codec else "", "note": "", "reason": media.reason}


def _tracks(results: Results, judged: Judged) -> list[list[dict[str, Any]]]:
    """Of each run, the curve of anomaly in general and those of the classes that matter most here."""
    classes, marks = results.manifest.classes, judged.truth
    found = []
    for scores, events in zip(judged.scores, judged.events, strict=True):
        own = [_track(ANOMALY, scores.general, judged, judged.spans_s, events, PAGE_BINS)]
        several = np.zeros((len(marks), 0)) if scores.classwise is None else scores.classwise
        peaks = several.max(axis=0) + np.asarray(marks.any(axis=0))[: several.shape[1]]  # annotated ones first
        for number in np.argsort(-peaks, kind="stable")[:CLASSES_SHOWN].tolist():
            spans = judged.seconds(marks[:, number])
            own.append(_track(classes[number], several[:, number], judged, spans, events, CLASS_BINS))
        found.append(own)
    return found


def _track(
    name: str, scores: np.ndarray, judged: Judged, truth: list[list[float]], events: Sequence[Event], bins: int
) -> dict[str, Any]:
    spans = [[round(e.start_s, 2), round(e.end_s, 2)] for e in events if e.class_name == name]
    bounds = encode(envelope(scores, judged.scores[0].times_s, bins))
    return {"label": name, "what": f"Scores of {name}", "bounds": bounds, "truth": truth, "events": spans}


def _rows(results: Results, judged: Judged) -> list[dict[str, Any]]:
    """Annotated intervals, and events of anomaly in general with their strongest class, in time."""
    times, ends, classes = judged.scores[0].times_s, judged.ends_s, results.manifest.classes
    words, rows = results.wording, []
    for number, name in enumerate(classes):
        for start, stop in maximal_runs(judged.truth[:, number]).tolist():
            score = _by_run(results, [one.general[start:stop].max() for one in judged.scores])
            place = words, float(times[start]), float(ends[stop - 1]), start, stop
            rows.append(_row(*place, "annotated", "truth", name, score))
    for run, scores, events, verdict in zip(results.runs, judged.scores, judged.events, judged.verdicts, strict=True):
        false = {(alarm.start_s, alarm.end_s) for alarm in verdict.false_alarms}
        for event in events:
            if event.class_name != ANOMALY:
                continue
            tone, said = ("bad", "false alarm") if (event.start_s, event.end_s) in false else ("good", "found")
            if not results.with_truth:
                tone, said = "event", "event"
            several = scores.classwise
            strongest = "" if several is None else _strongest(classes, several[event.start_frame : event.end_frame])
            place = words, event.start_s, event.end_s, event.start_frame, event.end_frame
            rows.append(
                _row(
                    *place,
                    said if len(results.runs) == 1 else f"{run.title}: {said}",
                    tone,
                    strongest,
                    f"{event.peak_score:.2f}",
                )
            )
    return sorted(rows, key=lambda row: (row["start_s"], row["what"] != "annotated"))


def _by_run(results: Results, scores: Sequence[float]) -> str:
    """A score of each run in words; its bare number where there is one run."""
    if len(scores) == 1:
        return f"{scores[0]:.2f}"
    return ", ".join(f"{run.title} {score:.2f}" for run, score in zip(results.runs, scores, strict=True))


def _strongest(classes: Sequence[str], scores: np.ndarray) -> str:
    """The class with the highest score in (n, C)."""
    return classes[int(np.argmax(scores.max(axis=0)))]


def _row(
    words: Wording, start_s: float, end_s: float, start: int, stop: int, what: str, tone: str, label: str, score: str
) -> dict[str, Any]:
    told = {"span": words.span(start_s, end_s), "frames": f"{start} to {stop - 1}"}
    return told | {"start_s": start_s, "end_s": end_s, "what": what, "tone": tone, "label": label, "score": score}


def _pictures(folder: Path, results: Results, judged: Judged) -> list[dict[str, Any]]:
    found = []
    for moment in telling_frames(judged):
        path = picture_path(folder / "pictures", moment.video_id, moment.frame)
        if path.exists():
            told = _by_run(results, [scores.general[moment.frame] for scores in judged.scores])
            what = f"{results.wording.time(moment.time_s, 1)}, score {told}"
            url = f"../pictures/{quote(path.name)}"
            found.append({"url": url, "frame": moment.frame, "time_s": moment.time_s, "what": what})
    return found


def _maps(folder: Path, results: Results, video_id: str) -> dict[str, Any] | None:
    """The relation maps that were drawn of the first run, or why there are none to draw."""
    own = folder / "maps" / escape(video_id)
    if not (own / "index.json").is_file():
        return None
    document = json.loads((own / "index.json").read_text(encoding="utf-8"))
    urls = [f"../maps/{quote(own.name)}/{quote(path.name)}" for path in sorted(own.glob("window-*.png"))]
    reason = document.get("not_available", {}).get("relation_map")
    return {"run": results.runs[0].title, "urls": [] if reason else urls, "reason": reason}


def _facts(results: Results, judged: Judged, media: Media) -> list[tuple[str, str]]:
    entry, count = judged.entry, len(judged.truth)
    length = f"{count} frames"
    if results.timed:
        length += f", {results.wording.length(judged.duration_s, 1)}"
        length += f", {entry.fps:.4g} frames per second by the file" if entry.fps else ""
    damage = ", ".join(f"{a} to {b - 1}" if b - a > 1 else str(a) for a, b in judged.lost)
    size = [f"{entry.width} x {entry.height} pixels"] if entry.width else []
    size += [file_size(entry.bytes)] if entry.bytes else []
    facts = [
        ("File", str(results.video_path(entry.video_id) or "not known")),
        ("Format", media.codec or "not known"),
        ("Size", ", ".join(size) or "not known"),
        ("Length", length),
        ("Source", entry.source or "not known"),
        (
            "Damage",
            f"{judged.lost_frames} frame{'' if judged.lost_frames == 1 else 's'} could not be decoded: {damage}"
            if damage
            else "none",
        ),
    ]
    return facts + [(f"Recipe of {run.title}", run.recipe) for run in results.runs]
