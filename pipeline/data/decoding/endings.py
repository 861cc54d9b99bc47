"""Where a file ends, by its own word, of formats whose readers in FFmpeg take a cut file for a whole one.

ASF (WMV) states its size and length, the last page of Ogg says that it is the last, and a transport stream is made of
packets of one size. A transport stream that is cut between two packets cannot be told from a whole one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pipeline.remote import AnyPath

__all__ = ["Ending", "ending"]

ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_BROADCAST = 1  # the file was written while its size was not known yet
ASF_LARGEST_HEADER = 1 << 20
OGG_LAST = 4
OGG_LARGEST_PAGE = 65307
TS_SYNC, TS_PACKETS, TS_LOOKED_AT = 0x47, {188: 0, 192: 4, 204: 0}, 10  # bytes of a packet: of those before its sync


@dataclass(frozen=True)
class Ending:
    """What a file says of its end.

    Attributes:
        fault: why it is not all there; None where nothing is known against it.
        length_s: seconds that it says it lasts; 0 where it says nothing.
    """

    fault: str | None = None
    length_s: float = 0.0


def ending(path: AnyPath, kind: str) -> Ending:
    """Look at a file of one of FFmpeg's formats; of other formats than the three nothing is said."""
    found = {"asf": _of_asf, "ogg": _of_ogg, "mpegts": _of_mpegts}.get(kind)
    return found(path) if found else Ending()


def _of_asf(path: AnyPath) -> Ending:
    with path.open("rb") as file:
        header = file.read(ASF_LARGEST_HEADER)
    place = header.find(ASF_FILE_PROPERTIES)
    if not header.startswith(ASF_HEADER) or not 0 < place <= len(header) - 92:
        return Ending()
    stated, _, _, length, _, preroll_ms, flags = struct.unpack_from("<QQQQQQI", header, place + 40)
    if flags & ASF_BROADCAST:
        return Ending()
    size = path.stat().st_size
    fault = f"the file ends after {size} of {stated} bytes" if size < stated else None
    return Ending(fault, max(0.0, length / 1e7 - preroll_ms / 1e3))


def _of_ogg(path: AnyPath) -> Ending:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 3 * OGG_LARGEST_PAGE))
        tail = file.read()
    place, last = tail.find(b"OggS"), None
    while place >= 0:
        end = _page_end(tail, place)
        if end > len(tail):
            return Ending("the file ends in the middle of a page")
        if end == len(tail) or tail.startswith(b"OggS", end):
            place, last = (end if end < len(tail) else -1), tail[place + 5]
        else:  # these four bytes are part of a page, or something lies behind the last one
            place, last = tail.find(b"OggS", place + 1), None
    if last is None or last & OGG_LAST:
        return Ending()
    return Ending("the file ends before the page that is marked as its last")


def _page_end(data: bytes, place: int) -> int:
    """Where the page at a place ends; past the end of the data where it is not all there."""
    segments = place + 27
    if segments > len(data) or segments + data[segments - 1] > len(data):
        return len(data) + 1
    return segments + data[segments - 1] + sum(data[segments : segments + data[segments - 1]])


def _of_mpegts(path: AnyPath) -> Ending:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TS_LOOKED_AT * max(TS_PACKETS)))
        tail = file.read()  # the last packets: streams that were joined need not begin at a multiple of the length
    for length, before in TS_PACKETS.items():
        for first in range(length):
            syncs = tail[first::length]
            if len(syncs) >= TS_LOOKED_AT - 1 and set(syncs) == {TS_SYNC}:
                rest = (len(tail) - first + before) % length
                return Ending("the file ends in the middle of a packet" if rest else None)
    return Ending()
