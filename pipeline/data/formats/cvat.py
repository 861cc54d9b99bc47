"""CVAT for video 1.1: an XML file a video, each event a track of a box that is the whole picture.

CVAT counts frames from 0. A track is seen from its first key frame until one that is `outside`, which an event that
lasts to the video's end does not have.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from pipeline.data.events import Event
from pipeline.data.formats.facts import VideoFacts, by_video, check_ends, need

__all__ = ["video_annotations"]

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def video_annotations(video_id: str, events: Sequence[Event], facts: VideoFacts, classes: Sequence[str]) -> str:
    """The annotations of one video.

    Args:
        video_id: of the video, the name of the task.
        events: of this video.
        facts: of this video: frames, width and height.
        classes: labels of the task, which CVAT must have before it reads the file.

    Raises:
        PipelineError: one of the facts is missing.
    """
    need({video_id: facts}, video_id, "frames", "width", "height")
    check_ends(events, facts)
    root = ElementTree.Element("annotations")
    _add(root, "version", "1.1")
    task = _add(_add(root, "meta"), "task")
    _add(task, "name", video_id)
    _add(task, "size", str(facts.frames))
    _add(task, "mode", "interpolation")
    _add(task, "overlap", "0")
    _add(task, "start_frame", "0")
    _add(task, "stop_frame", str(facts.frames - 1))
    labels = _add(task, "labels")
    for name in classes:
        label = _add(labels, "label")
        _add(label, "name", name)
        attribute = _add(_add(label, "attributes"), "attribute")
        for key, value in (
            ("name", "score"),
            ("mutable", "False"),
            ("input_type", "text"),
            ("default_value", ""),
            ("values", ""),
        ):
            _add(attribute, key, value)
    size = _add(task, "original_size")
    _add(size, "width", str(facts.width))
    _add(size, "height", str(facts.height))
    for number, event in enumerate(by_video(events).get(video_id, [])):
        track = _add(root, "track", id=str(number), label=_plain(event.class_name), source="auto")
        _box(track, event, facts, event.start_frame, outside=False)
        if event.end_frame < facts.frames:
            _box(track, event, facts, event.end_frame, outside=True)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _box(track: ElementTree.Element, event: Event, facts: VideoFacts, frame: int, *, outside: bool) -> None:
    corners = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{facts.width:.2f}", "ybr": f"{facts.height:.2f}"}
    state = {"frame": str(frame), "outside": str(int(outside)), "occluded": "0", "keyframe": "1"}
    box = _add(track, "box", **state, **corners, z_order="0")
    _add(box, "attribute", f"{event.peak_score:.6f}", name="score")


def _add(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = None if text is None else _plain(text)
    return element


def _plain(text: str) -> str:
    """A text without the characters that XML cannot hold; a mark stands for each."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
