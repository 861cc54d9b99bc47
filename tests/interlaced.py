"""A small encoder of H.264 with separately coded fields, which libx264 cannot write. Macroblocks are raw (I_PCM)."""

from __future__ import annotations

from pathlib import Path

import av

WIDTH = HEIGHT = 32
START = b"\0\0\0\1"


class Bits:
    """Bits, the highest first."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, count: int, value: int) -> Bits:
        self.text += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> Bits:
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def raw(self, data: bytes) -> Bits:
        self.text += "0" * (-len(self.text) % 8) + "".join(f"{byte:08b}" for byte in data)
        return self

    def unit(self, head: int) -> bytes:
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        plain, out = int(text, 2).to_bytes(len(text) // 8, "big"), bytearray([head])
        for byte in plain:
            if out[-2:] == b"\0\0" and byte <= 3:
                out.append(3)
            out.append(byte)
        return START + bytes(out)


def parameters() -> bytes:
    """Sequence (main profile, not frames only, order of decoding) and picture parameters."""
    sequence = Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 2, 1).u(1, 0).ue(WIDTH // 16 - 1, HEIGHT // 32 - 1)
    sequence.u(1, 0).u(1, 0).u(1, 1).u(1, 0).u(1, 0)
    picture = Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0).u(3, 0b100)
    return sequence.unit(0x67) + picture.unit(0x68)


def field(number: int, bottom: int, level: int) -> bytes:
    """One grey field of frame `number`."""
    first = number == 0 and not bottom
    bits = Bits().ue(0, 7, 0).u(4, number % 16).u(1, 1).u(1, bottom)
    if first:
        bits.ue(0).u(2, 0)
    else:
        bits.u(1, 0)
    bits.ue(0, 1)  # quantiser, no deblocking
    for _ in range(WIDTH // 16 * HEIGHT // 32):
        bits.ue(25).raw(bytes([level]) * 256 + bytes([128]) * 128)
    return bits.unit(0x65 if first else 0x61)


def write_fields(path: Path, levels: list[int]) -> Path:
    """A video of one frame per level, two packets each, 50 packets a second."""
    raw = path.with_suffix(".h264")
    fields = [field(number, bottom, level) for number, level in enumerate(levels) for bottom in (0, 1)]
    raw.write_bytes(parameters() + b"".join(fields))
    with av.open(str(raw)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        assert len(packets) == len(fields)
        for number, packet in enumerate(packets):
            packet.stream, packet.is_keyframe = stream, number < 2
            packet.pts = packet.dts = number * round(1 / (50 * packet.time_base))
            output.mux(packet)
    return path
