"""How fast is an exported detector beside the detector itself, on a CPU?

Both score the same generated video from the file to the scores of its frames, in processes of their own that run in
alternating slices while the other is paused (benchmarks/turns.py), each with the same number of threads:

    python benchmarks/onnx_export.py --backbone tpn_slowonly_r50 --frames 48 --repeats 3 --threads 1

writes benchmarks/results/onnx_export.json. The detector is packed with a head that has learnt nothing, which costs as
much as one that has, and exported first; the largest difference of a score is written too. Loading is not timed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from benchmarks.turns import Turns, serve
from benchmarks.videos import make_video
from pipeline.config import parse_experiment
from pipeline.config.features import Machine
from pipeline.config.runs import Training
from pipeline.data.manifest import Manifest
from pipeline.models.weights import weights_sha256
from pipeline.stages.common.feature_recipe import FeatureRecipe
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.export import export_onnx
from pipeline.stages.detector.gig_onnx import ExportedDetector
from pipeline.stages.detector.packing import RunOutputs, pack_detector
from pipeline.stages.events.operating_point import configured, write_operating_point
from pipeline.stages.training.saved_heads import make_head, save_head

CLASSES = ("Fighting", "Accident")
WEIGHTS = {"tpn_slowonly_r50": "random", "tpn_tiny": "bundled"}


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tpn_slowonly_r50", choices=list(WEIGHTS))
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="Of torch and of onnxruntime.")
    parser.add_argument("--turns", type=float, default=1.0, help="Seconds per slice.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/onnx_export.json"))
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)  # the way that a process runs, and its detector
    return parser.parse_args()


def pack(folder: Path, backbone: str) -> Path:
    """A detector file whose head has learnt nothing."""
    weights = WEIGHTS[backbone]
    experiment = parse_experiment(
        {
            "experiment": "speed",
            "dataset": {"adapter": "csv", "name": "none", "root": ".", "classes": list(CLASSES)},
            "backbone": {"name": backbone, "weights": weights},
            "machine": {"device": "cpu"},
            "runs": {"gig": {}},
        }
    )
    recipe = FeatureRecipe(
        backbone=backbone,
        weights_sha256="random-0" if weights == "random" else weights_sha256(weights, backbone),
        precision="float32",
        preprocess=experiment.preprocess.model_dump(),
        sampling=experiment.train_sampling.model_dump(),
        dtype=experiment.storage.dtype,
        map_shape=(7, 7, 2048),
    )
    settings = experiment.run("gig").head
    save_head(
        folder / "head.safetensors",
        make_head(settings, Training(), 2048, len(CLASSES)),
        settings,
        None,
        CLASSES,
        recipe,
    )
    write_operating_point(folder, configured(experiment.events, CLASSES, "none was asked for"), {})
    outputs = RunOutputs(
        name="speed",
        experiment=experiment,
        run="gig",
        stage="frozen",
        precision="float32",
        head=folder,
        operating_point=folder,
        evaluation=None,
        manifest=Manifest(folder, CLASSES, (), ()),
        left_out=0,
        digests={},
        warnings=("It has learnt nothing.",),
    )
    pack_detector(outputs, folder / "speed.safetensors")
    return folder / "speed.safetensors"


def make_way(name: str, detector: Path, threads: int) -> Callable[[Path], np.ndarray]:
    """Scores of a video, (N,) of anomaly in general, by `torch` or `onnx`."""
    if name == "onnx":
        exported = ExportedDetector(detector, threads)
        return lambda video: exported.score_video(video).anomaly
    own = Detector.load(detector, machine=Machine(device="cpu", threads=threads, decode_workers=1))
    return lambda video: own.score(video).anomaly


def main() -> None:
    """Run the benchmark, or one of its ways."""
    options = read_options()
    if options.serve:
        way = make_way(options.serve[0], Path(options.serve[1]), options.threads)
        serve(lambda video: len(way(video)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector, exported, video = pack(folder, options.backbone), folder / "exported", folder / "video.mp4"
        export_onnx(Detector.load(detector, machine=Machine(device="cpu")), exported, print)
        make_video(video, 340, 256, options.frames, 0.13)
        scores = [make_way(*way, options.threads)(video) for way in (("torch", detector), ("onnx", exported))]
        command = [sys.executable, __file__, "--threads", str(options.threads), "--serve"]
        commands = {"torch": [*command, "torch", str(detector)], "onnx": [*command, "onnx", str(exported)]}
        seconds: dict[str, list[float]] = {"torch": [], "onnx": []}
        with Turns(commands, options.turns) as laps:
            for repeat in range(options.repeats + 1):  # the first round warms up
                for way, (lap, frames, peak) in laps(video).items():
                    assert frames == options.frames
                    if repeat:
                        seconds[way].append(lap)
                        print(f"{way}: {lap:.2f} s, {peak} MiB", flush=True)
        megabytes = sum(path.stat().st_size for path in exported.iterdir()) / 2**20
    write_result(
        options.out,
        {
            "command": command_line(),
            "machine": f"{machine()}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}",
            "backbone": options.backbone,
            "frames": options.frames,
            "seconds": {way: [round(lap, 3) for lap in laps] for way, laps in seconds.items()},
            "time_of_onnx_over_torch": round(
                statistics.median(o / t for o, t in zip(seconds["onnx"], seconds["torch"], strict=True)), 3
            ),
            "exported_mib": round(megabytes, 1),
            "largest_difference": float(f"{np.abs(scores[0] - scores[1]).max():.2g}"),
        },
    )
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
