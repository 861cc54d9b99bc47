"""Label Studio: events as pre-annotations on the timeline of a video. `label_studio_export` reads them back.

Label Studio knows a video by a frame rate alone, so every task says which: `fps` in its data, which the labelling
configuration hands to the player, see `Numbering`. Its frames count from 1, and the last belongs to the segment.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.data.events import Event
from pipeline.data.formats.facts import Numbering, VideoFacts, by_video, check_ends, need
from pipeline.errors import PipelineError

__all__ = ["KIND", "VIDEO", "labelling_config", "tasks"]

CONTROL, VIDEO, KIND = "event", "video", "timelinelabels"
COLOURS = ("#d1495b", "#2e86ab", "#edae49", "#66a182", "#8d5a97", "#00798c", "#c16e70", "#5b8c5a")


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
