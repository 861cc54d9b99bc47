"""How long does it take to find three pictures in a long video, by seeking and by decoding from its start?

The video is generated: 1920 x 1080 pixels, H.264, a key frame every 250 frames, one minute that is repeated. Both ways
must give the same pictures.

    python benchmarks/pictures.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.stages.report.pictures import write_pictures

FPS, MINUTE = 25, 1500


def make_video(path: Path, minutes: int) -> None:
    """Encode a minute of changing squares and a moving bar, and write its packets once for every minute."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "ultrafast", "g": "250", "bf": "3", "sc_threshold": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        generator = np.random.default_rng(0)
        squares = [generator.integers(60, 90, (135, 240, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(4)]
        packets = []
        for number in range(MINUTE):
            image = squares[number // 5 % 4].copy()
            image[:, number : number + 60] = 200
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        packets += stream.encode(None)
        step = round(1 / (FPS * packets[0].time_base))
        kept = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        time_base = packets[0].time_base
        for minute in range(minutes):
            for data, pts, dts, key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, key
                packet.pts, packet.dts = pts + minute * MINUTE * step, dts + minute * MINUTE * step
                packet.duration = step
                container.mux(packet)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pictures.json"))
    options = parser.parse_args()

    frames = options.minutes * MINUTE
    wanted = [frames // 6, frames * 2 // 3, frames * 29 // 30]
    with tempfile.TemporaryDirectory(prefix="gig-pictures-") as scratch:
        video, found = Path(scratch) / "v.mp4", {}
        make_video(video, options.minutes)
        for name, times_s in (("sought_s", np.arange(frames) / FPS), ("from_start_s", None)):
            start = time.monotonic()
            write_pictures(Path(scratch) / name, "v", video, wanted, times_s)
            found[name] = round(time.monotonic() - start, 1)
        for path in (Path(scratch) / "sought_s").iterdir():
            if path.read_bytes() != (Path(scratch) / "from_start_s" / path.name).read_bytes():
                sys.exit(f"{path.name}: seeking gives another picture than decoding from the start")
        result = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}",
            "minutes": options.minutes,
            "megabytes": round(video.stat().st_size / 1e6),
            "pictures": len(wanted),
        } | found
    text = json.dumps(result, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
