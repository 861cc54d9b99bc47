"""What was lost when a damaged video was decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Damage"]


@dataclass
class Damage:
    """What went wrong while a video was decoded.

    Attributes:
        errors: packets or images that raised an error instead of yielding a frame, and errors in the file around them.
        corrupt_frames: frames that were decoded but that FFmpeg calls corrupt.
        lost: numbers of the frames that were not decoded, as ranges (first, one after the last). Each keeps its number:
            the frame before it replaces it, at the start of the video the first frame that was decoded.
        first_frame: number of the first frame with any damage; None while there is none.
        message: the library's words about that frame.
    """

    errors: int = 0
    corrupt_frames: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)
    first_frame: int | None = None
    message: str | None = None

    def __bool__(self) -> bool:
        return self.first_frame is not None

    @property
    def lost_frames(self) -> int:
        """How many frames were not decoded."""
        return sum(stop - start for start, stop in self.lost)

    def note(self, frame: int, message: str, *, corrupt: bool = False) -> None:
        """Count one error, or one corrupt frame."""
        self.errors += not corrupt
        self.corrupt_frames += corrupt
        if self.first_frame is None:
            self.first_frame, self.message = frame, message

    def lose(self, frame: int) -> None:
        """Note that the frame of this number was not decoded; numbers rise from call to call."""
        if self.lost and self.lost[-1][1] == frame:
            self.lost[-1] = (self.lost[-1][0], frame + 1)
        else:
            self.lost.append((frame, frame + 1))
        if self.first_frame is None:
            self.first_frame, self.message = frame, "the decoder gave no frame"
