"""What people made of tasks in Label Studio: its export, read."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.data.formats.label_studio import KIND, VIDEO
from pipeline.data.problems import Problems
from pipeline.data.tables import read_text

__all__ = ["Reviewed", "Segment", "read_export"]

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
    unanswered, without_rate = [], []
    for number, task in enumerate(exported, start=1):
        place = f"{file}, task {task.get('id', number)}"
        video_id = _video_id(task["data"], video_ids)
        if video_id is None:
            problems.add(
                place, f"expected `video_id` or `video` of a video of the data set, got {_named(task['data'])}"
            )
            continue
        annotation = _annotation(task["annotations"], f"{place} ({video_id})", problems)
        if annotation is None:
            unanswered.append(video_id)
        elif video_id in reviewed:
            problems.add(place, f"{video_id} is there already ({reviewed[video_id].place})")
        elif annotation:
            segments = _segments(annotation.get("result"), f"{place} ({video_id})", problems, notes)
            reviewed[video_id] = Reviewed(place, video_id, segments, bool(task["data"].get("steady", True)))
            if segments and "steady" not in task["data"]:
                without_rate.append(video_id)
    if unanswered:
        notes.append(f"not annotated, or skipped by the annotator: {', '.join(unanswered)}; these stay as they were")
    if without_rate:
        notes.append(
            "not made by `gig export`, so that their numbers are taken for frames, which they are where Label Studio "
            f"was told each video's frame rate: {', '.join(without_rate)}"
        )
    return list(reviewed.values())


def _named(data: Mapping[str, Any]) -> str:
    return repr(data.get("video_id") or data.get(VIDEO) or sorted(data))


def _video_id(data: Mapping[str, Any], video_ids: Collection[str]) -> str | None:
    if "video_id" in data:
        named = data["video_id"]
        return named if isinstance(named, str) and named in video_ids else None
    for path in _paths(str(data.get(VIDEO, ""))):
        parts = [part for part in path.split("/") if part]
        # The longest end of the path that is an id: files of one name may lie in several folders.
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            for candidate in (name, posixpath.splitext(name)[0]):
                if candidate in video_ids:
                    return candidate
        if parts and UPLOADED.match(parts[-1]):
            uploaded = UPLOADED.sub("", parts[-1])
            names = (uploaded, posixpath.splitext(uploaded)[0])
            found = [video_id for video_id in video_ids if video_id in names] or [
                video_id for video_id in video_ids if _as_uploaded(video_id) in names
            ]
            if len(found) == 1:
                return found[0]
    return None


def _paths(address: str) -> list[str]:
    """What an address may be the path of: as it stands, as in buckets, whose keys are not escaped; or as a URL, perhaps
    one that has the path behind `?d=`."""
    _, _, behind = address.rpartition("://")
    try:
        url = urlsplit(address)
    except ValueError:
        return [behind]
    asked = parse_qs(url.query).get("d", [])
    return [*asked, behind, unquote(url.path)]


def _as_uploaded(name: str) -> str:
    """A name as Label Studio keeps the file of an upload."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _annotation(annotations: list[Any], place: str, problems: Problems) -> dict[str, Any] | None:
    """The annotation that counts; None where there is none, {} and a problem where it is not known which."""
    handed_in = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    chosen = [annotation for annotation in handed_in if annotation.get("ground_truth")] or handed_in
    if len(chosen) > 1:
        people = ", ".join(_person(annotation.get("completed_by")) for annotation in chosen)
        problems.add(place, f"{len(chosen)} annotations, by {people}: expected one, or one marked as ground truth")
        return {}
    return chosen[0] if chosen else None


def _person(who: object) -> str:
    return str(who.get("email") or who.get("id")) if isinstance(who, dict) else f"user {who or 'unknown'}"


def _segments(result: object, place: str, problems: Problems, notes: list[str]) -> tuple[Segment, ...]:
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        problems.add(place, "expected a list of labelled segments as the result")
        return ()
    found: list[Segment] = []
    others: Counter[str] = Counter()
    for region in result:
        where = f"{place}, region {region.get('id')}"
        value = region.get("value")
        if region.get("type") == KIND:
            found += _of_region(value if isinstance(value, dict) else {}, where, problems)
        elif region.get("type") == "videorectangle" or (isinstance(value, dict) and "sequence" in value):
            # Passed over, a video that has boxes alone would count as normal.
            problems.add(
                where,
                f"expected timeline labels, got a {region.get('type')}: boxes with a `sequence` of frames "
                "(VideoRectangle) are not read",
            )
        else:
            others[str(region.get("type"))] += 1
    if others:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in others.items())
        notes.append(f"{place}: results that are no segments of the timeline are passed over: {kinds}")
    return tuple(found)


def _of_region(value: Mapping[str, Any], where: str, problems: Problems) -> list[Segment]:
    names, ranges = value.get(KIND), value.get("ranges")
    if not (isinstance(names, list) and names and isinstance(ranges, list) and ranges):
        problems.add(where, "expected a label and a range of frames, got a segment without")
        return []
    found = []
    for one in ranges:
        first, last = (one.get("start"), one.get("end")) if isinstance(one, dict) else (one, None)
        if first is None or last is None or not _whole(first) or not _whole(last) or not 1 <= first <= last:
            problems.add(where, f"expected frames from 1, the first not after the last, got {first!r} to {last!r}")
            continue
        found += [Segment(where, str(name), int(first), int(last)) for name in names]
    return found


def _whole(number: Any) -> bool:
    return (isinstance(number, int) and not isinstance(number, bool)) or (
        isinstance(number, float) and number.is_integer()
    )
