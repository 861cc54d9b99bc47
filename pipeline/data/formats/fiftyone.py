"""FiftyOne: temporal detections as its `FiftyOneTemporalDetectionDataset` lies on disk.

labels.json has the detections of every video by a name, data.json the file of every name. FiftyOne counts frames from
1, and the last frame belongs to the detection: frames [start, end) are its support [start + 1, end].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.events import Event
from pipeline.data.formats.facts import VideoFacts, by_video, check_ends, need

__all__ = ["data", "labels"]


def labels(events: Sequence[Event], facts: Mapping[str, VideoFacts]) -> dict[str, Any]:
    """labels.json: an entry for every video that is known or has an event."""
    found = by_video(events)
    for video_id, of_video in found.items():
        check_ends(of_video, facts.get(video_id, VideoFacts()))
    classes = list(dict.fromkeys(event.class_name for group in found.values() for event in group))
    return {
        "classes": classes,
        "labels": {
            video_id: [
                {
                    "label": classes.index(e.class_name),
                    "support": [e.start_frame + 1, e.end_frame],
                    "confidence": e.peak_score,
                    "attributes": {"mean_score": e.mean_score, "start_s": e.start_s, "end_s": e.end_s},
                }
                for e in found.get(video_id, [])
            ]
            for video_id in sorted({*facts, *found})
        },
    }


def data(events: Sequence[Event], facts: Mapping[str, VideoFacts]) -> dict[str, str]:
    """data.json: where the video of every name lies. Raises PipelineError where that is not known."""
    return {
        video_id: need(facts, video_id, "path").path
        for video_id in sorted({*facts, *(event.video_id for event in events)})
    }
