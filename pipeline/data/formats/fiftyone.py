"""FiftyOne: temporal detections as its `FiftyOneTemporalDetectionDataset` lies on disk.

labels.json has the detections of every video by a name, data.json the file of every name. FiftyOne counts frames from
1, and the last frame belongs to the detection: frames [start, end) are its support [start + 1, end].

As FiftyOne 1.22 reads them, the names in data.json lose what follows their last dot, and its paths are relative to the
file itself. So the names here end as the files do, and the paths are absolute.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pipeline.data.events import Event
from pipeline.data.formats.facts import VideoFacts, by_video, check_ends, need
from pipeline.errors import PipelineError

__all__ = ["data", "labels"]


def labels(events: Sequence[Event], facts: Mapping[str, VideoFacts]) -> dict[str, Any]:
    """labels.json: an entry for every video that is known or has an event.

    Raises:
        PipelineError: an event ends past the last frame of its video.
    """
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
    """data.json: where the video of every name lies.

    Raises:
        PipelineError: that is not known, or FiftyOne would take the video's id for another one.
    """
    found = {}
    for video_id in sorted({*facts, *(event.video_id for event in events)}):
        path = need(facts, video_id, "path").path
        if posixpath.isabs(video_id) or posixpath.normpath(video_id.replace("\\", "/")) != video_id:
            raise PipelineError(
                f"{video_id}: FiftyOne takes a video's id for a path and would read this one as another: expected an "
                r"id without a leading slash, \, // and /./"
            )
        found[video_id + (PurePath(path).suffix or ".mp4")] = os.path.abspath(path)
    return found
