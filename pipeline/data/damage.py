"""What decoding a damaged video costs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Damage"]


@dataclass
class Damage:
    """What went wrong while a video was decoded.

    Attributes:
        errors: packets, or images, that gave no frame but an error.
        corrupt_frames: frames that the decoder gave and called corrupt.
        first_frame: frames before the first of these; None while there is none.
        message: the library's words at the first of these.
    """

    errors: int = 0
    corrupt_frames: int = 0
    first_frame: int | None = None
    message: str | None = None

    def __bool__(self) -> bool:
        return self.first_frame is not None

    def note(self, frame: int, message: str, *, corrupt: bool = False) -> None:
        """Count one error, or one corrupt frame."""
        self.errors += not corrupt
        self.corrupt_frames += corrupt
        if self.first_frame is None:
            self.first_frame, self.message = frame, message
