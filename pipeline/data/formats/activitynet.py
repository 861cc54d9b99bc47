"""ActivityNet JSON: segments in seconds, as results of a system or as ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.events import Event
from pipeline.data.formats.facts import VideoFacts, by_video, need

__all__ = ["results", "truth"]

VERSION = "VERSION 1.3"


def results(events: Sequence[Event]) -> dict[str, Any]:
    """A submission of temporal localisation, as the official evaluation reads it.

    The score of an event is that of its peak.
    """
    return {
        "version": VERSION,
        "results": {
            video_id: [{"label": e.class_name, "score": e.peak_score, "segment": [e.start_s, e.end_s]} for e in found]
            for video_id, found in by_video(events).items()
        },
        "external_data": {"used": False, "details": ""},
    }


def truth(events: Sequence[Event], facts: Mapping[str, VideoFacts], subset: str = "testing") -> dict[str, Any]:
    """The form of annotations, with an entry for every video that is known or has an event.

    Args:
        events: what counts as the truth.
        facts: of the videos: frames and frame rate, and the size in pixels where it is known.
        subset: what the file calls the videos.

    Raises:
        PipelineError: a video's length is not known.
    """
    found = by_video(events)
    database = {}
    for video_id in sorted({*facts, *found}):
        about = need(facts, video_id, "duration_s")
        database[video_id] = {
            "duration": about.duration_s,
            "subset": subset,
            "resolution": f"{about.width}x{about.height}" if about.width else "",
            "url": about.path,
            "annotations": [{"label": e.class_name, "segment": [e.start_s, e.end_s]} for e in found.get(video_id, [])],
        }
    names = sorted({event.class_name for event in events})
    nodes = [{"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}]
    nodes += [
        {"nodeId": number, "nodeName": name, "parentId": 0, "parentName": "Root"}
        for number, name in enumerate(names, start=1)
    ]
    return {"version": VERSION, "taxonomy": nodes, "database": database}
