"""The index: metrics, curves, the moments to look at first, and the table of all videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.data.events import ANOMALY
from pipeline.stages.report.charts import HEIGHT, WIDTH, make_charts
from pipeline.stages.report.events import rule_in_words
from pipeline.stages.report.judging import Highlight, Highlights, Verdict
from pipeline.stages.report.metrics import HEADLINES, metric_rows
from pipeline.stages.report.pages import write_page
from pipeline.stages.report.pictures import picture_path
from pipeline.stages.report.results import Results
from pipeline.stages.report.timelines import encode, envelope
from pipeline.stages.report.video_page import page_name
from pipeline.stages.report.videos import Judged
from pipeline.stages.report.wording import clock

__all__ = ["Index", "write_index"]

BINS = 100
MOST_BINS = 400
"""Of all runs of a video together: with more than four runs each timeline has fewer."""

COLUMNS = (
    ("name", "Video and scores over time", ""),
    ("truth", "Annotated", "left wide"),
    ("duration", "Length", "wide"),
    ("peak", "Highest score", "wide"),
    ("outside", "Highest outside", "wide"),
    ("auc", "AUC", "wide"),
    ("found", "Found", ""),
    ("alarms", "False alarms", ""),
    ("error", "Largest error", "wide"),
)
"""Of the table of videos: key, heading, and where it stands."""
FOUND_COLUMNS = (
    ("name", "Video and scores over time", ""),
    ("raised", "Classes raised", "left wide"),
    ("duration", "Length", "wide"),
    ("peak", "Highest score", ""),
    ("alarms", "Events", ""),
    ("within", "In events", "wide"),
)
"""The same, without ground truth."""
KINDS = (
    ("all", "all videos"),
    ("anomalous", "anomalous videos"),
    ("normal", "normal videos"),
    ("alarms", "with false alarms"),
    ("missed", "with something missed"),
    ("damaged", "with lost frames"),
)
FOUND_KINDS = (("all", "all videos"), ("alarms", "with events"), ("quiet", "without events"), KINDS[-1])


@dataclass
class Index:
    """What the index says of every video, gathered one after the other.

    Attributes:
        results: what the report is about.
        videos: of each video: id, page, classes, duration, lost frames, annotated spans.
        scores: of each run, of each video: timeline, events and numbers.
        verdicts: of each run, of each video.
        seconds, frames: of all videos.
        damaged: videos with lost frames.
    """

    results: Results
    videos: list[list[Any]] = field(default_factory=list)
    scores: list[list[list[Any]]] = field(default_factory=list)
    verdicts: list[list[Verdict]] = field(default_factory=list)
    seconds: float = 0.0
    frames: int = 0
    damaged: int = 0

    def __post_init__(self) -> None:
        self.scores = [[] for _ in self.results.runs]
        self.verdicts = [[] for _ in self.results.runs]
        self._aucs = [{row["video_id"]: row["auc"] for row in run.table("per_video.csv")} for run in self.results.runs]
        self._numbers = {name: number for number, name in enumerate(self.results.manifest.classes)}

    def add(self, judged: Judged) -> None:
        """Take up one video."""
        entry, runs = judged.entry, self.results.runs
        classes = [self._numbers[name] for name in entry.labels or ()]
        href = f"videos/{quote(page_name(entry.video_id))}"
        self.videos.append(
            [entry.video_id, href, classes, round(judged.duration_s, 2), judged.lost_frames, judged.spans_s]
        )
        bins = max(20, min(BINS, MOST_BINS // len(runs)))
        for number in range(len(runs)):
            scores, verdict = judged.scores[number], judged.verdicts[number]
            auc = self._aucs[number].get(entry.video_id)
            own = [e for e in judged.events[number] if e.class_name == ANOMALY]
            facts: list[Any] = [
                encode(envelope(scores.general, scores.times_s, bins)),
                [[round(event.start_s, 2), round(event.end_s, 2)] for event in own],
                round(verdict.peak, 4),
                None if verdict.outside is None else round(verdict.outside, 4),
                round(float(auc), 4) if auc else None,
                len(verdict.hits),
                len(verdict.misses),
                len(verdict.false_alarms),
                round(verdict.error, 4),
            ]
            if not self.results.with_truth:
                raised = {e.class_name for e in judged.events[number]} & self._numbers.keys()
                facts += [sorted(self._numbers[name] for name in raised), round(sum(e.duration_s for e in own), 2)]
            self.scores[number].append(facts)
            self.verdicts[number].append(verdict)
        self.seconds += judged.duration_s
        self.frames += len(judged.truth)
        self.damaged += bool(judged.lost_frames)


def write_index(folder: Path, index: Index, highlights: Sequence[Highlights]) -> None:
    """Write index.html; it shows the pictures that lie in `folder`.

    Args:
        folder: of the report.
        index: what is known of the videos.
        highlights: of each run.
    """
    results = index.results
    metrics = [run.metrics for run in results.runs]
    titles = [run.title for run in results.runs]
    rows = metric_rows(metrics)
    first = metrics[0]
    numbers = {video[0]: number for number, video in enumerate(index.videos)}
    facts = {
        "experiment": results.experiment,
        "dataset": results.dataset,
        "facts": {
            "videos": len(index.videos),
            "anomalous": sum(bool(video[5]) for video in index.videos),
            "frames": index.frames,
            "footage": clock(index.seconds) if results.timed else "",
            "damaged": index.damaged,
        },
        "with_truth": results.with_truth,
        "quarantined": results.quarantined,
        "runs": titles,
        "headlines": sorted((r for r in rows if r.key in HEADLINES), key=lambda r: HEADLINES.index(r.key)),
        "level": first.get("bootstrap", {}).get("level", 0.95),
        "moments": [
            _moments(folder, index, numbers, own, verdicts)
            for own, verdicts in zip(highlights, index.verdicts, strict=True)
        ],
        "rules": [rule_in_words(rules, results.with_truth) for rules in results.rules],
        "classes": results.manifest.classes,
        "columns": COLUMNS if results.with_truth else FOUND_COLUMNS,
        "kinds": KINDS if results.with_truth else FOUND_KINDS,
        "charts": make_charts(titles, [run.curve() for run in results.runs], [run.det() for run in results.runs])
        if results.with_truth
        else [],
        "chart_size": (WIDTH, HEIGHT),
        "class_tables": [_class_table(run.table("per_class.csv")) for run in results.runs],
        "metrics": rows,
        "run_facts": _run_facts(index),
        "notes": results.notes,
        "warnings": list(dict.fromkeys(line for one in metrics for line in one.get("warnings", ()))),
        "config": results.config,
    }
    data = {
        "timed": results.timed,
        "judged": results.with_truth,
        "runs": titles,
        "classes": results.manifest.classes,
        "videos": index.videos,
        "scores": index.scores,
    }
    write_page(folder / "index.html", "index", facts, data)


def _moments(
    folder: Path, index: Index, numbers: dict[str, int], own: Highlights, verdicts: Sequence[Verdict]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """The lists: heading, what to say where there is none, and the moments."""
    words = index.results.wording
    raised = {verdict.video_id for verdict in verdicts if verdict.false_alarms}

    def told(moment: Highlight, what: str) -> dict[str, Any]:
        number = numbers[moment.video_id]
        picture = picture_path(folder / "pictures", moment.video_id, moment.frame)
        return {
            "name": moment.video_id,
            "href": index.videos[number][1],
            "number": number,
            "seconds": moment.time_s,
            "what": f"{what} {moment.score:.2f} at {words.time(moment.time_s, 1)}",
            "picture": f"pictures/{quote(picture.name)}" if picture.exists() else "",
        }

    if not index.results.with_truth:
        highest = [told(m, "event, score" if m.video_id in raised else "no event, at most") for m in own.highest]
        return [("Highest moments", "There are no videos.", highest)]
    nothing = "" if any(verdict.hits or verdict.misses for verdict in verdicts) else "Nothing is annotated."
    return [
        (
            "Worst false alarms",
            "No event outside what is annotated.",
            [told(m, "nothing annotated, score") for m in own.false_alarms],
        ),
        (
            "Worst misses",
            nothing or "Everything annotated was found.",
            [told(m, "missed, at most") for m in own.misses],
        ),
        ("Best hits", nothing or "Nothing annotated was found.", [told(m, "found, score") for m in own.hits]),
    ]


def _class_table(rows: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    shares = ("precision", "recall", "f1", "ap")
    return [
        {
            "name": row["class"],
            "shares": [float(row[key]) if row[key] else None for key in shares],
            "counts": [row["true_frames"], row["predicted_frames"]],
        }
        for row in rows
    ]


def _run_facts(index: Index) -> list[tuple[str, str]]:
    results, first = index.results, index.results.runs[0].metrics
    files = ", ".join(f"{file['path']} ({file['sha256'][:12]})" for file in first.get("truth", {}).get("files", ()))
    footage = results.wording.length(index.seconds)
    facts = [
        ("Experiment", f"{results.experiment}, digest {results.digest}" if results.digest else ""),
        ("Data set", f"{results.dataset}, read as {results.adapter}" if results.dataset else ""),
        ("Annotations", (files or "not known") if results.with_truth else "none: nothing is judged on this page"),
        ("Classes", ", ".join(results.manifest.classes) or "none"),
        ("Training videos", str(len(results.manifest.split("train"))) if results.digest else ""),
        ("Test videos" if results.with_truth else "Videos", f"{len(index.videos)}, {footage} in all"),
        ("Not readable", str(len(results.quarantined)) if results.quarantined else "none"),
        ("Lost frames", f"in {index.damaged} video{'' if index.damaged == 1 else 's'}" if index.damaged else "none"),
        ("Code", f"version {first['code_version']}" if "code_version" in first else ""),
    ]
    return [fact for fact in facts if fact[1]] + [(f"Run {run.title}", run.recipe) for run in results.runs]
