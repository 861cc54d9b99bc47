"""WebVTT: subtitles of one video, so that any player shows the alarms as it plays.

Cues of events that overlap are shown together. Times are in thousandths of a second, which is finer than any frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.data.events import Event
from pipeline.data.formats.facts import by_video

__all__ = ["subtitles"]

ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def subtitles(events: Sequence[Event]) -> str:
    """The cues of one video's events, in order of their start."""
    cues = []
    for video_events in by_video(events).values():
        for number, event in enumerate(video_events, start=1):
            start, end = round(1000 * event.start_s), round(1000 * event.end_s)
            times = f"{_clock(start)} --> {_clock(max(end, start + 1))}"
            cues.append(f"{number}\n{times}\n{_line(event.class_name)} {event.peak_score:.2f}\n")
    return "\n".join(["WEBVTT\n", *cues])


def _line(text: str) -> str:
    """A text on one line, as a cue may hold it."""
    return " ".join(text.translate(ESCAPED).replace("\0", "\N{REPLACEMENT CHARACTER}").split())


def _clock(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{thousandths:03}"
