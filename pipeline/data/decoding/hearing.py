"""What FFmpeg says while it works, for faults that it reports in no other way."""

from __future__ import annotations

from contextlib import nullcontext

import av
import av.logging

from pipeline.data.decoding.opening import reason

__all__ = ["Ear", "HeardDecoder", "Said"]

Said = tuple[int, str, str]
"""One message: level, source, text."""

SKIPPED = "Skipping invalid undecodable NALU: "
FIRST_OTHER_UNIT = 32  # HEVC: units of lower types are slices of pictures


class Ear:
    """Hears what FFmpeg warns of within its `with` block, as a list. Can be used again."""

    def __init__(self) -> None:
        self._capture = av.logging.Capture()

    def __enter__(self) -> list[Said]:
        self._before = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.WARNING)
        av.logging.set_skip_repeated(False)  # else messages repeated from another file would not come
        return self._capture.__enter__()

    def __exit__(self, *error: object) -> None:
        self._capture.__exit__(None, None, None)
        level, skip = self._before
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


class HeardDecoder:
    """Decodes packets, and also hears what the decoder leaves out without an error.

    FFmpeg's HEVC decoder leaves out slices that it cannot decode, and then all pictures that refer to theirs, and only
    says so. Units that are no slices may be unknown to it, and harm nothing. A recording that begins between two key
    frames has pictures at its start that no decoder can show; that is no fault.

    Args:
        stream: the stream of the packets.

    Attributes:
        complaint: why the packet decoded last could not be decoded, or not all of it; None if all is well.
        error: what was raised then; None if nothing was.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        self._ear = Ear() if stream.codec_context.name == "hevc" else None
        self._begun: bool | None = None
        self.complaint: str | None = None
        self.error: Exception | None = None

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        """The frames that come out."""
        self.complaint, self.error = None, None
        if self._begun is None:
            self._begun = packet.is_keyframe
        with self._ear or nullcontext([]) as said:
            said.clear()
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                self.complaint, self.error = reason(error), error
                return []
            self.complaint = _left_out(said) if said and self._begun else None
            self._begun = self._begun or bool(frames)
            return frames


def _left_out(said: list[Said]) -> str | None:
    """Why the first slice that was left out could not be decoded; None if there is none."""
    error: str | None = None
    for level, source, text in said:
        if source != "hevc":
            continue
        if level <= av.logging.ERROR:
            error = error or text.strip()
        elif text.startswith(SKIPPED):
            kind = text.removeprefix(SKIPPED).strip()
            if kind.isdecimal() and int(kind) < FIRST_OTHER_UNIT:
                return error or "a slice cannot be decoded"
            error = None  # it was about that unit
    return None
