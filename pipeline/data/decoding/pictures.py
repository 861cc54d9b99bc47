"""Which packets of a video stream show a picture of their own.

Two kinds do not: the second field of an interlaced H.264 picture whose fields are coded separately, and a VP8 picture
that only serves as a reference. Packets that an edit list hides are not shown either. Nothing is decoded: only a few
bits of each packet's head are read, and only in streams that can hold such packets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av

__all__ = ["ShownPackets"]

HEAD_BYTES = 48
SLICES = (1, 5)
SEQUENCE = 7
WITH_CHROMA = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)


class ShownPackets:
    """Tells which packets of a stream show a picture; asked about all of them, in order.

    Args:
        stream: the stream, before its first packet.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        self._codec = stream.codec_context.name
        extradata = stream.codec_context.extradata or b""
        # An MP4's description begins with 1, a start code with 0.
        self._length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0
        self._sequence = _described(extradata, self._length_bytes) if self._codec == "h264" else None
        self._open: _Field | None = None
        # Which of an interlaced picture's fields comes second; None where whole frames are coded.
        self._second: int | None = 1

    def shows(self, packet: av.Packet[av.VideoStream]) -> bool:
        """Whether a player shows a picture for the packet. True for one that cannot be understood."""
        own = packet.size > 0
        if own and self._codec.endswith("vp8"):
            own = bool(memoryview(packet)[0] & 0x10)
        elif own and self._codec == "h264":
            own = self._begins_picture(packet)
        return own and not packet.is_discard

    def _begins_picture(self, packet: av.Packet[av.VideoStream]) -> bool:
        """False for the second field of a picture whose first field was in a packet before."""
        if self._sequence is None and packet.is_keyframe:
            self._sequence = _described(bytes(packet), 0)
        if self._sequence is None or self._sequence.frames_only:
            return True
        try:
            slices = set(_slices(bytes(packet), self._length_bytes, self._sequence))
        except ValueError:
            slices = set()
        opened, self._open = self._open, None
        if not slices and self._second is not None:  # one that cannot be read, among fields
            self._open = None if opened else UNREAD
            return opened is None
        field = slices.pop() if len(slices) == 1 else None
        if field is None:
            self._second = None
            return True  # a whole frame, or both fields
        if opened == field.other() or (opened == UNREAD and field.bottom == self._second):
            self._second = field.bottom
            return False
        self._open = field
        return True


@dataclass(frozen=True)
class _Field:
    """A field of an interlaced picture: the number of its frame, and 1 for the bottom field, 0 for the top."""

    number: int
    bottom: int

    def other(self) -> _Field:
        """The second field of the same frame."""
        return _Field(self.number, 1 - self.bottom)


UNREAD = _Field(-1, -1)


@dataclass(frozen=True)
class _Sequence:
    """What is needed to read the head of an H.264 slice.

    Attributes:
        frames_only: whether all pictures are coded as whole frames.
        number_bits: length of the frame number.
        planes_bits: length of the colour plane.
    """

    frames_only: bool
    number_bits: int
    planes_bits: int


def _slices(data: bytes, length_bytes: int, sequence: _Sequence) -> Iterator[_Field | None]:
    """The field that each slice of a packet is of; None for a slice of a whole frame. Raises ValueError."""
    for unit in _units(data, length_bytes):
        if unit[:1] and unit[0] & 31 in SLICES:
            bits = _Bits(_plain(unit[1:HEAD_BYTES]))
            for _ in range(3):  # first macroblock, kind of slice, picture parameters
                bits.exponential()
            bits.read(sequence.planes_bits)
            number = bits.read(sequence.number_bits)
            yield _Field(number, bits.read(1)) if bits.read(1) else None


class _Bits:
    """Bits of some bytes, the highest first. Raises ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        """The next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the bits end")
        return self._value >> self._left & (1 << count) - 1

    def exponential(self) -> int:
        """An Exp-Golomb code: n zeros, then n + 1 bits of the value + 1."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


def _described(data: bytes, length_bytes: int) -> _Sequence | None:
    """The first sequence parameters of an MP4's description, or of units behind start codes."""
    first_of_mp4 = data[8 : 8 + int.from_bytes(data[6:8], "big")]
    for unit in [first_of_mp4] if length_bytes else _units(data, 0):
        if unit[:1] and unit[0] & 31 == SEQUENCE:
            try:
                return _sequence(_Bits(_plain(unit[1:])))
            except ValueError:
                return None
    return None


def _sequence(bits: _Bits) -> _Sequence:
    """H.264, 7.3.2.1.1, as far as frame_mbs_only_flag."""
    profile = bits.read(24) >> 16
    bits.exponential()
    planes_bits = 0
    if profile in WITH_CHROMA:
        chroma = bits.exponential()
        planes_bits = 2 * bits.read(1) if chroma == 3 else 0
        bits.exponential(), bits.exponential(), bits.read(1)  # depths, bypass
        if bits.read(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling(bits, 16 if number < 6 else 64)
    number_bits = bits.exponential() + 4
    order = bits.exponential()
    if order == 0:
        bits.exponential()
    elif order == 1:
        bits.read(1), bits.exponential(), bits.exponential()
        for _ in range(bits.exponential()):
            bits.exponential()
    bits.exponential(), bits.read(1), bits.exponential(), bits.exponential()  # references, gaps, width, height
    return _Sequence(bool(bits.read(1)), number_bits, planes_bits)


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.exponential()
            following = (last + ((code + 1) // 2 if code % 2 else -code // 2)) % 256
        last = following or last


def _units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The NAL units of a packet. Each follows a start code, or its length in `length_bytes` bytes if that is not 0."""
    if not length_bytes:
        yield from data.split(b"\0\0\1")[1:]
        return
    place = 0
    while place + length_bytes < len(data):
        start = place + length_bytes
        place = start + int.from_bytes(data[place:start], "big")
        yield data[start:place]


def _plain(data: bytes) -> bytes:
    """A unit's bytes without the 3 that keeps a start code from appearing in it."""
    return data.replace(b"\0\0\3", b"\0\0")
