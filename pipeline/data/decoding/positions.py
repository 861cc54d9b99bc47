"""Which number a decoded frame has in its file, where frames before it could not be decoded.

Every packet is marked before it is decoded, and a frame carries the mark of its packet, so it is known which packets
gave no frame. Frames come in the order in which they are shown. So when a frame comes, a packet that is shown before it
and has given none has lost its frame. The order in which packets are shown follows from their presentation times. Where
they have none, the order of the packets is used: then a lost frame among B-frames may be some places off, but the
frames behind them are in their places again.

A frame is taken for lost only around damage: if decoding its packet failed; if its packet gave nothing while the
decoder had not recovered (until the next sound key frame); or if its packet is missing, which shows as a gap in
otherwise even times. Elsewhere a packet without a frame is intended, and frames are numbered as the decoder yields
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import av

__all__ = ["Positions"]

REORDERED = 16  # packets by which a frame without times can be late, as many as H.264 allows
PROBED = 250  # packets that FFmpeg may have read while opening a file: what it said then may be about any of them
AHEAD = 2  # packets by which a complaint comes too early, as FFmpeg reads ahead in a transport stream
LONGEST_GAP_S = 10.0  # a longer one is a clock that jumped


@dataclass(slots=True, eq=False)
class _Mark:
    """One packet.

    Attributes:
        number: of the packet, in the order of the file.
        key: sorts the frames in the order in which they are shown; its last part is the number.
        pts: presentation time, in the stream's units; None where it cannot be relied on.
        failed: whether decoding it raised an error.
        corrupt: whether the file's reader calls it damaged.
        first: the mark of the first field, if this is the second field of a picture.
    """

    number: int
    key: tuple[int, int, int]
    pts: int | None
    failed: bool = False
    corrupt: bool = False
    first: _Mark | None = None


class Positions:
    """Follows one video from packets to frames.

    Args:
        stream: the stream; set up to hand marks from packets to frames.
        fps: its frame rate.
        timed: whether the container holds presentation times. An AVI does not, and FFmpeg's guesses are wrong with
            B-frames.
    """

    def __init__(self, stream: av.VideoStream, fps: float, *, timed: bool) -> None:
        stream.codec_context.copy_opaque = True
        ticks = float(1 / stream.time_base) if stream.time_base else 0.0  # a second
        self._expected_step, self._longest_gap = ticks / fps, ticks * LONGEST_GAP_S
        self._ordered, self._even, self._step = timed, timed, 0.0
        self._count = self._segment = 0
        self._last_dts: int | None = None
        self._sent: _Mark | None = None
        self._current: _Mark | None = None
        self._shown: _Mark | None = None
        self._out: _Mark | None = None
        self._suspects: list[_Mark] = []
        self._trouble: int | None = None

    def complained(self) -> None:
        """Note that FFmpeg complained about the file: packets may be missing before the next one."""
        self._trouble = self._count + AHEAD if self._count else PROBED

    def sent(self, packet: av.Packet[av.VideoStream], shown: bool) -> None:
        """Mark a packet that is about to be decoded.

        Args:
            packet: the packet.
            shown: whether a picture is shown for it, see `ShownPackets`.
        """
        self._current = None
        if not packet.size:
            return
        if packet.dts is not None:
            if self._last_dts is not None and packet.dts < self._last_dts:
                self._segment += 1  # the clock begins anew
            self._last_dts = packet.dts
        pts = packet.pts if self._ordered else None
        before = self._sent.key[1] if self._sent and self._sent.key[0] == self._segment else 0
        mark = _Mark(
            self._count, (self._segment, before if pts is None else pts, self._count), pts, corrupt=packet.is_corrupt
        )
        self._count += 1
        packet.opaque = mark
        self._sent = self._current = mark
        if mark.corrupt:
            self._trouble = mark.number + AHEAD
        if shown:
            self._shown = mark
            if self._trouble is not None:
                self._suspects.append(mark)
        elif not packet.is_discard:
            mark.first = self._shown

    def failed(self) -> None:
        """Note that the packet marked last could not be decoded."""
        mark = self._current
        if mark is None:
            return
        mark.failed, self._trouble = True, mark.number
        if mark is self._shown and mark not in self._suspects:
            self._suspects.append(mark)

    def lost_before(self, frame: av.VideoFrame) -> list[int | None]:
        """The frames lost between the frame before and this one.

        Returns:
            Presentation time of each, in the stream's units; None where it is not known.
        """
        mark = frame.opaque
        if not isinstance(mark, _Mark):
            return []
        if mark.first is not None and mark.first in self._suspects:
            mark = mark.first  # its first field is lost, the second alone is its frame
        self._suspects = [other for other in self._suspects if other is not mark]
        if self._out and mark.key < self._out.key and mark.key[0] == self._out.key[0]:
            self._ordered = self._even = False
        if self.is_corrupt(frame):
            self._trouble = max(self._trouble or 0, mark.number + 1)
        lost = self._take(mark)
        lost = self._gap(mark, len(lost)) or lost
        self._out = mark
        if frame.key_frame and self._trouble is not None and mark.number >= self._trouble:
            self._trouble = None
        return lost

    def lost_at_end(self) -> list[int | None]:
        """The frames lost behind the last one, in the form of `lost_before`; call once all has been decoded."""
        lost = [mark.pts for mark in sorted(self._suspects, key=lambda mark: mark.key)]
        self._suspects = []
        return lost

    @staticmethod
    def is_corrupt(frame: av.VideoFrame) -> bool:
        """Whether the decoder calls the frame damaged, or the file's reader its packet."""
        return frame.is_corrupt or (isinstance(frame.opaque, _Mark) and frame.opaque.corrupt)

    def _take(self, mark: _Mark) -> list[int | None]:
        """The suspects that should have come before a frame, and can no longer come."""

        def late(other: _Mark) -> bool:
            if other.failed or (self._ordered and other.pts is not None):
                return other.key < mark.key
            return other.number + REORDERED < mark.number

        lost = sorted((other for other in self._suspects if late(other)), key=lambda other: other.key)
        self._suspects = [other for other in self._suspects if not late(other)]
        return [other.pts for other in lost]

    def _gap(self, mark: _Mark, known: int) -> list[int | None]:
        """All lost frames if some of their packets are missing, by the time since the frame before; else none."""
        before = self._out
        if before is None or before.pts is None or mark.pts is None or before.key[0] != mark.key[0]:
            return []
        step = mark.pts - before.pts
        if not self._step and (self._trouble is None or 0.5 < step / self._expected_step < 1.5):
            self._step = step
        if not self._even or self._step <= 0:
            return []
        steps = step / self._step
        if self._trouble is None and not known:
            self._even = 0.5 < steps < 1.5
            return []
        missing = round(steps) - 1 - known
        if missing <= 0 or step > self._longest_gap:
            return []
        return [round(mark.pts - number * self._step) for number in range(known + missing, 0, -1)]
