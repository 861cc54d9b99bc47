"""A file's packets, what FFmpeg says of the file while they are read, and how much of it was there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

import av
import av.logging
from av.stream import Stream

from pipeline.data.decoding.endings import Ending, ending
from pipeline.data.decoding.hearing import Ear, Said
from pipeline.data.decoding.opening import opened, reason
from pipeline.data.decoding.pictures import ShownPackets
from pipeline.remote import AnyPath

__all__ = ["Demuxed", "Packets", "open_packets"]

EMPTY_SHARE = 0.05
GUESSED_DURATION = ("mpegts", "mpeg")  # formats that state none, so that FFmpeg derives it from the packets
SAMPLES, SAMPLE_BYTES = 16, 256


@dataclass(slots=True)
class Demuxed:
    """One packet of the video stream, or what FFmpeg reported where there was none.

    Attributes:
        packet: None where the file could not be read further, or where the complaint is about another stream.
        shown: whether a player shows a picture for it, see `ShownPackets`.
        complaint: the error that FFmpeg reported about the file since the packet before; None without one.
        doubtful: whether FFmpeg warned of a damaged packet, of which it may have returned parts that look sound.
        error: why the file cannot be read further; nothing comes after it. `complaint` says it in words.
    """

    packet: av.Packet[av.VideoStream] | None
    shown: bool = False
    complaint: str | None = None
    doubtful: bool = False
    error: Exception | None = None


@contextmanager
def open_packets(path: AnyPath) -> Iterator[tuple[av.container.InputContainer, av.VideoStream, Packets]]:
    """An open container, its best video stream, and the packets. Raises DecodeError."""
    with ExitStack() as stack:
        with Ear() as said:  # opening reads the first packets already
            container, stream = stack.enter_context(opened(path))
        yield container, stream, Packets(path, container, stream, said)


class Packets:
    """The packets of the video stream, in the order of the file; iterate once.

    Packets of other streams are left out, but their times tell how long the file is.

    Attributes:
        shown: number of packets so far for which a picture is shown.
        complaint: FFmpeg's first error about the file, raised by the format's reader, not by the decoder.
    """

    def __init__(
        self,
        path: AnyPath,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        said: list[Said],
    ) -> None:
        self.shown = 0
        self._path, self._container, self._stream = path, container, stream
        # Opening an MP4 reads no more than its index, and for a duration FFmpeg looks at a file's end.
        elsewhere = any(self._is(kind) for kind in ("mov", *GUESSED_DURATION))
        self.complaint = None if elsewhere else self._about_the_file(said)
        said.clear()
        self._shown = ShownPackets(stream)
        self._indexed = len(stream.index_entries)
        self._all = self._with_picture = 0
        self._end_byte = 0
        self._ends: dict[int, int] = {}
        self._cut: dict[int, bool] = {}

    def __iter__(self) -> Iterator[Demuxed]:
        packets = self._container.demux()
        own, ear = self._stream.index, Ear()
        if self.complaint:
            yield Demuxed(None, complaint=self.complaint)
        while True:
            error = None
            with ear as said:
                try:
                    packet = next(packets, None)
                except (av.error.FFmpegError, ValueError) as failure:
                    packet, error = None, failure
            complaint, doubtful = None, False
            if said:
                complaint = self._about_the_file(said)
                doubtful = any(text.startswith(f"Packet corrupt (stream = {own},") for _, _, text in said)
                said.clear()
            if error:
                complaint = complaint or reason(error)
            self.complaint = self.complaint or complaint
            if error:
                yield Demuxed(None, complaint=complaint, error=error)
                return
            if packet is None:
                if complaint:
                    yield Demuxed(None, complaint=complaint)
                return
            self._measure(packet)
            if _is_of(packet, self._stream):
                shown = self._shown.shows(packet)
                self.shown += shown
                yield Demuxed(packet, shown, complaint, doubtful)
            elif complaint:
                yield Demuxed(None, complaint=complaint)

    def _about_the_file(self, said: list[Said]) -> str | None:
        """The first error that the format's reader reported."""
        name = self._container.format.name
        return next(
            (text.strip() for level, source, text in said if level <= av.logging.ERROR and source == name), None
        )

    def _measure(self, packet: av.Packet[Stream]) -> None:
        if not packet.size:
            return
        index, pts, place = packet.stream.index, packet.pts, packet.pos
        self._cut[index] = packet.is_corrupt
        if index == self._stream.index:
            self._all += 1
            self._with_picture += not packet.is_discard
        if pts is not None:
            self._ends[index] = max(self._ends.get(index, 0), pts + (packet.duration or 0))
        if place is not None:
            self._end_byte = max(self._end_byte, place + packet.size)

    def fault(self) -> str | None:
        """Why the file is not whole; None if nothing is known against it. Call once all packets have been read."""
        if self.complaint:
            return self.complaint
        if any(self._cut.values()):  # the last packet of a stream
            return "the file ends in the middle of a packet"
        if self._lists_more():
            return f"the file ends after {self.shown} of {self.declared()} frames"
        if self._ends_in_zeros():
            return f"the file holds nothing but zeros from byte {self._end_byte} on"
        return self._ending.fault

    @cached_property
    def _ending(self) -> Ending:
        return ending(self._path, self._container.format.name)

    def declared(self) -> int:
        """The number of frames that the file says are shown; 0 where it says nothing. Call once all have been read.

        An MP4's index lists every packet, and an AVI states their number. In other files that are not whole, the stated
        duration tells how many frames are missing, or, where the rest of the file is zeros, the size of that rest.
        """
        if self._is("mov"):
            listed = sum(entry.size > 0 and not entry.is_discard for entry in self._stream.index_entries)
            return round(listed * self.shown / self._with_picture) if self._with_picture else listed
        if self._stream.frames:
            return self._all if self._is("avi") and not self._lists_more() else self._stream.frames
        if self.fault() is None:
            return 0
        missing = 0
        if self._ends and not any(self._is(kind) for kind in GUESSED_DURATION):
            start_s = (self._container.start_time or 0) / av.time_base
            ends_s = {index: self._seconds(index, end) - start_s for index, end in self._ends.items()}
            stated_s = self._ending.length_s or (self._container.duration or 0) / av.time_base
            missing_s = stated_s - max(ends_s.values())
            own_s = ends_s.get(self._stream.index, 0.0)
            missing = max(0, round(missing_s * self.shown / own_s)) if own_s > 0 else 0
        if not missing and self._ends_in_zeros():
            missing = round(self.shown * (self._size() / self._end_byte - 1))
        return self.shown + missing if missing else 0

    def _seconds(self, index: int, ticks: int) -> float:
        """A time of one of the streams in seconds."""
        time_base = self._container.streams[index].time_base
        assert time_base is not None  # every stream of a file that is read has one
        return float(ticks * time_base)

    def _lists_more(self) -> bool:
        """Whether the file lists packets that it does not hold.

        An AVI that states more packets is still whole if its index is complete, its length as stated and its end
        written.
        """
        if self._is("mov"):
            return self.shown < self.declared()
        if not self._is("avi") or self._all >= self._stream.frames:
            return False
        with self._path.open("rb") as file:
            size = int.from_bytes(file.read(8)[4:], "little") + 8
        return self._indexed < self._all or self._size() < size or self._ends_in_zeros()

    def _ends_in_zeros(self) -> bool:
        """Whether a good part of the file behind its last packet is all zeros, because it was never written."""
        size = self._size()
        rest = size - self._end_byte
        if self._is("mov") or not self._end_byte or rest < EMPTY_SHARE * size or rest < 2 * SAMPLES * SAMPLE_BYTES:
            return False
        middle = int(self._end_byte + rest / 2)
        with self._path.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(middle + number * ((size - middle - SAMPLE_BYTES) // (SAMPLES - 1)))
                if any(file.read(SAMPLE_BYTES)):
                    return False
        return True

    def _size(self) -> int:
        return self._path.stat().st_size

    def _is(self, kind: str) -> bool:
        return kind in self._container.format.name.split(",")


def _is_of(packet: av.Packet[Stream], stream: av.VideoStream) -> TypeGuard[av.Packet[av.VideoStream]]:
    return packet.stream.index == stream.index
