"""What a wide picture costs: time, memory and cache, as ratios to the centre crop of 224 x 224.

One generated video goes from the file into a cache, once for each size of picture, each in a process of its own; these
run in alternating slices while the others are paused, so what else the machine does changes the ratios little.

    python benchmarks/picture_size.py --windows 8 --repeats 2
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.extraction_ways import ours
from benchmarks.results_file import command_line, machine, write_result
from benchmarks.turns import Turns, serve
from benchmarks.videos import make_video
from pipeline.config import Experiment, parse_experiment
from pipeline.stages.common.picture import map_size
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.sources import experiment_workers

CROP = "crop"
SIZE_FILE = "bytes"


def settings(name: str, backbone: str, folder: Path) -> Experiment:
    """An experiment whose pictures are the centre crop, or HEIGHTxWIDTH stretched; its cache is in the folder."""
    height, width = (224, 224) if name == CROP else map(int, name.split("x"))
    whole = {"fit": "stretch", "height": height, "width": width}
    return parse_experiment(
        {
            "experiment": "benchmark",
            "dataset": {"adapter": "csv", "name": "none", "root": str(folder), "classes": ["none"]},
            "backbone": {"name": backbone, "weights": "random"},
            "preprocess": {} if name == CROP else whole,
            "machine": {"device": "cpu"},
            "paths": {"output": str(folder), "cache": f"{folder}/cache"},
        }
    )


def serve_one(name: str, backbone: str) -> None:
    """What the process of one size does: extract, and leave the size of its cache beside the video."""
    folder = Path(tempfile.mkdtemp())
    experiment = settings(name, backbone, folder)
    try:
        with experiment_workers(experiment) as workers:
            extract = ours(Extractor(experiment), workers, folder, 1)

            def run(video: Path) -> int:
                windows = extract(video)
                size = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
                video.with_name(f"{name}.{SIZE_FILE}").write_text(str(size), encoding="utf-8")
                return windows

            serve(run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["224x384"], help="HEIGHTxWIDTH, compared with the crop.")
    parser.add_argument("--backbone", default="tpn_slowonly_r50")
    parser.add_argument("--video", default="1280x720", help="Size of the generated video.")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--turn", type=float, default=1.0, help="Seconds of a slice.")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/picture_size.json"))
    options = parser.parse_args()
    if options.serve:
        serve_one(options.serve, options.backbone)
        return
    names = [CROP, *options.sizes]
    commands = {name: [sys.executable, __file__, *sys.argv[1:], "--serve", name] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        video = Path(scratch) / "video.mp4"
        make_video(video, *map(int, options.video.split("x")), 3 * options.windows + 3, 0.1)
        with Turns(commands, options.turn) as turns:
            turns(video)  # warm-up
            rounds = [turns(video) for _ in range(options.repeats)]
        cached = {name: int(video.with_name(f"{name}.{SIZE_FILE}").read_text(encoding="utf-8")) for name in names}
        cells = {name: map_size(settings(name, options.backbone, Path(scratch))) for name in names}
    lines = []
    for name in names:
        ratios = [laps[name][0] / laps[CROP][0] for laps in rounds]
        peak = max(laps[name][2] for laps in rounds)
        windows = rounds[0][name][1]
        lines.append(
            {
                "picture": name,
                "map": cells[name],
                "windows": windows,
                "time_ratio": round(statistics.median(ratios), 3),
                "time_ratios": [round(ratio, 3) for ratio in ratios],
                "seconds_per_frame": round(statistics.median(laps[name][0] for laps in rounds) / (3 * windows + 3), 4),
                "peak_MiB": peak,
                "cache_bytes_per_window": round(cached[name] / windows),
                "cache_ratio": round(cached[name] / cached[CROP], 3),
                "raw_ratio": round(cells[name][0] * cells[name][1] / (cells[CROP][0] * cells[CROP][1]), 3),
            }
        )
        print(lines[-1], flush=True)
    document = {"command": command_line(), "machine": machine(), "backbone": options.backbone, "video": options.video}
    write_result(options.out, {**document, "pictures": lines})


if __name__ == "__main__":
    main()
