"""Label Studio: events as pre-annotations on the timeline of a video, and what people made of them, read back.

Label Studio knows a video by a frame rate alone, so every task says which: `fps` in its data, which the labelling
configuration hands to the player, see `Numbering`. Its frames count from 1, and the last belongs to the segment.
"""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pipeline.data.events import Event
from pipeline.data.formats.facts import Numbering, VideoFacts, by_video, check_ends, need
from pipeline.data.problems import Problems
from pipeline.data.tables import read_text
from pipeline.errors import PipelineError

__all__ = ["Reviewed", "Segment", "labelling_config", "read_export", "tasks"]

CONTROL, VIDEO, KIND = "event", "video", "timelinelabels"
COLOURS = ("#d1495b", "#2e86ab", "#edae49", "#66a182", "#8d5a97", "#00798c", "#c16e70", "#5b8c5a")
UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of a file that was uploaded to it."""


@dataclass(frozen=True)
class Segment:
    """A labelled stretch of a video's timeline.

    Attributes:
        place: where the export has it.
        label: as it was chosen.
        first, last: numbers from 1; the last belongs to the segment.
    """

    place: str
    label: str
    first: int
    last: int


@dataclass(frozen=True)
class Reviewed:
    """A video that somebody has looked at.

    Attributes:
        place: where the export has it.
        video_id: of the video.
        segments: what was labelled; none says that nothing is there.
        steady: whether its numbers are the video's own frames, see `Numbering`.
    """

    place: str
    video_id: str
    segments: tuple[Segment, ...]
    steady: bool


def labelling_config(classes: Sequence[str]) -> str:
    """The project's labelling configuration, in XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="$video_id")
    ElementTree.SubElement(view, "Video", name=VIDEO, value="$video", frameRate="$fps", timelineHeight="120")
    labels = ElementTree.SubElement(view, "TimelineLabels", name=CONTROL, toName=VIDEO)
    for number, name in enumerate(classes):
        ElementTree.SubElement(labels, "Label", value=name, background=COLOURS[number % len(COLOURS)])
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def tasks(
    events: Sequence[Event],
    facts: Mapping[str, VideoFacts],
    prefix: str = "",
    base: Path | None = None,
    model_version: str = "gig-vad",
) -> list[dict[str, Any]]:
    """Tasks with predictions, to be imported as JSON: one for every video that is known or has an event.

    Args:
        events: of any videos.
        facts: of these: paths, frame rates, and presentation times where the rate is variable.
        prefix: what makes an address of a path, such as `/data/local-files/?d=`; the path is escaped behind it.
        base: the folder that paths behind a prefix are relative to; None leaves them as they are.
        model_version: what Label Studio calls the predictions.

    Raises:
        PipelineError: a fact is missing, or the events are not at the frame rate that the video is said to have.
    """
    found = by_video(events)
    made = []
    for video_id in sorted({*facts, *found}):
        about = need(facts, video_id, "path", "fps")
        numbering = Numbering.of(about)
        of_video = found.get(video_id, [])
        check_ends(of_video, about)
        if about.times_s is None:
            _check_rate(of_video, about.fps)
        address = f"{prefix}{quote(_below(about.path, base))}" if prefix else about.path
        made.append(
            {
                "data": {
                    "video": address,
                    "video_id": video_id,
                    "fps": numbering.rate,
                    "frames": about.frames,
                    "steady": numbering.boundaries_s is None,
                },
                "predictions": [
                    {
                        "model_version": model_version,
                        "score": max((event.peak_score for event in of_video), default=0.0),
                        "result": [_region(event, numbering) for event in of_video],
                    }
                ],
            }
        )
    return made


def _below(path: str, base: Path | None) -> str:
    if base is None:
        return path
    try:
        return Path(path).resolve().relative_to(base.resolve()).as_posix()
    except ValueError as error:
        raise PipelineError(f"{path}: expected a video below {base}") from error


def _check_rate(events: Sequence[Event], fps: float) -> None:
    for event in events:
        if abs(event.start_s * fps - event.start_frame) > 0.5:
            raise PipelineError(
                f"{event.video_id}: frame {event.start_frame} is shown at {event.start_s:g} s, which a steady "
                f"{fps:g} frames a second do not give: expected the presentation times of a video of variable frame "
                "rate, which are read from the video itself"
            )


def _region(event: Event, numbering: Numbering) -> dict[str, Any]:
    first, last = numbering.numbers(event.start_frame, event.end_frame)
    identity = f"{event.video_id}\0{event.class_name}\0{event.start_frame}\0{event.end_frame}"
    return {
        "id": hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:10],
        "type": KIND,
        "from_name": CONTROL,
        "to_name": VIDEO,
        "score": event.peak_score,
        "value": {"ranges": [{"start": first, "end": last}], KIND: [event.class_name]},
    }


def read_export(file: Path, video_ids: Collection[str], problems: Problems, notes: list[str]) -> list[Reviewed]:
    """What people labelled, of an export in Label Studio's own JSON form (not JSON-MIN).

    A task without an annotation that was handed in has no answer, and a note says so. One that several people
    annotated needs one annotation that is marked as ground truth.

    Args:
        file: the export.
        video_ids: of the data set. A task is of the video that its data calls `video_id`, else of the one that has the
            name of its file.
        problems: everything that cannot be taken for what was meant.
        notes: what was passed over, and why.
    """
    text = read_text(file, problems)
    if text is None:
        return []
    try:
        exported = json.loads(text)
    except ValueError as error:
        problems.add(str(file), f"expected JSON, as Label Studio exports it: {error}")
        return []
    if not isinstance(exported, list) or not all(
        isinstance(task, dict) and isinstance(task.get("annotations"), list) and isinstance(task.get("data"), dict)
        for task in exported
    ):
        problems.add(str(file), "expected a list of tasks with data and annotations: the export form 'JSON'")
        return []
    reviewed: dict[str, Reviewed] = {}
    unanswered = []
    for number, task in enumerate(exported, start=1):
        place = f"{file}, task {task.get('id', number)}"
        video_id = _video_id(task["data"], video_ids)
        if video_id is None:
            named = task["data"].get("video_id") or task["data"].get(VIDEO)
            problems.add(place, f"no video of the data set: {named!r}")
            continue
        annotation = _annotation(task["annotations"], f"{place} ({video_id})", problems)
        if annotation is None:
            unanswered.append(video_id)
        elif video_id in reviewed:
            problems.add(place, f"{video_id} is there already ({reviewed[video_id].place})")
        elif annotation:
            segments = _segments(annotation.get("result"), f"{place} ({video_id})", problems, notes)
            reviewed[video_id] = Reviewed(place, video_id, segments, bool(task["data"].get("steady", True)))
    if unanswered:
        notes.append(f"not annotated, or skipped by the annotator: {', '.join(unanswered)}; these stay as they were")
    return list(reviewed.values())


def _video_id(data: Mapping[str, Any], video_ids: Collection[str]) -> str | None:
    if "video_id" in data:
        return data["video_id"] if data["video_id"] in video_ids else None
    address = urlsplit(str(data.get(VIDEO, "")))
    path = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    name = PurePosixPath(path).name
    candidates = [name, PurePosixPath(name).stem]
    candidates += [UPLOADED.sub("", candidate) for candidate in candidates]
    return next((candidate for candidate in candidates if candidate in video_ids), None)


def _annotation(annotations: list[Any], place: str, problems: Problems) -> dict[str, Any] | None:
    """The annotation that counts; None where there is none, {} and a problem where it is not known which."""
    handed_in = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    chosen = [annotation for annotation in handed_in if annotation.get("ground_truth")] or handed_in
    if len(chosen) > 1:
        problems.add(place, f"{len(chosen)} annotations: expected one, or one that is marked as ground truth")
        return {}
    return chosen[0] if chosen else None


def _segments(result: object, place: str, problems: Problems, notes: list[str]) -> tuple[Segment, ...]:
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        problems.add(place, "expected a list of labelled segments as the result")
        return ()
    found = []
    for region in result:
        if region.get("type") != KIND:
            continue
        where = f"{place}, region {region.get('id')}"
        value = region.get("value") or {}
        names, ranges = value.get(KIND) or [], value.get("ranges") or []
        if not names or not ranges:
            problems.add(where, "expected a label and a range of frames, got a segment without")
        for one in ranges:
            first, last = one.get("start"), one.get("end")
            if not _whole(first) or not _whole(last) or not 1 <= first <= last:
                problems.add(where, f"expected frames from 1, the first not after the last, got {first!r} to {last!r}")
                continue
            found += [Segment(where, str(name), int(first), int(last)) for name in names]
    others = Counter(str(region.get("type")) for region in result if region.get("type") != KIND)
    if others:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in others.items())
        notes.append(f"{place}: results that are no segments of the timeline are passed over: {kinds}")
    return tuple(found)


def _whole(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and number == int(number)
