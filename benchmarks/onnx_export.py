"""How fast is an exported detector beside the detector itself, on a CPU?

Both turn the same cropped pictures of a generated video into scores of windows, in one process and on one thread, one
after the other in alternating rounds:

    python benchmarks/onnx_export.py --backbone tpn_slowonly_r50 --frames 24 --repeats 3

writes benchmarks/results/onnx_export.json. What counts is the seconds of the CPU, on which others who use the machine
have less effect than on the clock. The detector's own way is that of an extraction, in batches of eight clips, then its
reduction and head. It is packed with a head that has learnt nothing, which costs as much as one that has. Loading,
decoding and the cache are not in it; the largest difference of a score is.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from benchmarks.videos import make_video
from pipeline.config import parse_experiment
from pipeline.config.machine import Machine
from pipeline.config.runs import Training
from pipeline.data.decoding.decode import iter_frames
from pipeline.data.manifest import Manifest
from pipeline.data.windows import window_indices
from pipeline.models.cues import Overview
from pipeline.models.reduction import global_pattern_cue
from pipeline.models.weights import weights_sha256
from pipeline.stages.common.feature_recipe import FeatureRecipe
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.export import export_onnx
from pipeline.stages.detector.gig_onnx import ExportedDetector
from pipeline.stages.detector.packing import RunOutputs, pack_detector
from pipeline.stages.events.operating_point import configured, write_operating_point
from pipeline.stages.extraction.engine import Engine
from pipeline.stages.training.saved_heads import make_head, save_head
from pipeline.stages.training.windows import reduce_maps

CLASSES = ("Fighting", "Accident")
WEIGHTS = {"tpn_slowonly_r50": "random", "tpn_tiny": "bundled"}


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="tpn_slowonly_r50", choices=list(WEIGHTS))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/onnx_export.json"))
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


def own_way(detector: Detector) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Scores (W, 1 + C) of the windows of pictures, by the detector."""
    document, head = detector.document, detector.head
    engine = Engine(detector.backbone(), torch.device("cpu"), 8)
    dtype = getattr(torch, document.storage.dtype)

    def score(pictures: Sequence[np.ndarray]) -> np.ndarray:
        windows = window_indices(len(pictures), **document.test_sampling.model_dump())
        features = engine.frames(pictures)
        found = engine.clips([[features[i] for i in window] for window in windows], dtype).numpy()
        with torch.inference_mode():
            maps = torch.from_numpy(found).float()[None]
            cue = global_pattern_cue(maps)
            scores = head.module(cue, reduce_maps(maps, Overview(cue), head.settings).vectors).segment_scores
        return scores[0].numpy()

    return score


def main() -> None:
    """Run the benchmark."""
    options = read_options()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine_settings = Machine(device="cpu", threads=1, decode_workers=1)
        detector = Detector.load(pack(folder, options.backbone), machine=machine_settings)
        export_onnx(detector, folder / "exported", print)
        exported = ExportedDetector(folder / "exported", threads=1)
        make_video(folder / "video.mp4", 340, 256, options.frames, 0.13)
        pictures = [np.asarray(frame.image) for frame in iter_frames(folder / "video.mp4")]
        ways = {"torch": own_way(detector), "onnx": lambda pictures: exported.score(pictures).windows}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        scores: dict[str, np.ndarray] = {}
        for repeat in range(options.repeats + 1):  # the first round warms up
            for way, score in ways.items():
                start = time.process_time()
                scores[way] = score(pictures)
                taken = time.process_time() - start
                if repeat:
                    seconds[way].append(taken)
                    print(f"{way}: {taken:.2f} s", flush=True)
        megabytes = sum(path.stat().st_size for path in (folder / "exported").iterdir()) / 2**20
    ratios = [onnx / own for onnx, own in zip(seconds["onnx"], seconds["torch"], strict=True)]
    windows = len(scores["torch"])
    result = {
        "command": command_line(),
        "machine": f"{machine()}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}",
        "backbone": options.backbone,
        "frames": options.frames,
        "windows": windows,
        "cpu_s": {way: [round(each, 3) for each in taken] for way, taken in seconds.items()},
        "windows_per_cpu_s": {way: round(windows / statistics.median(taken), 2) for way, taken in seconds.items()},
        "time_of_onnx_over_torch": round(statistics.median(ratios), 3),
        "exported_mib": round(megabytes, 1),
        "largest_difference": float(f"{np.abs(scores['torch'] - scores['onnx']).max():.2g}"),
    }
    write_result(options.out, result)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
