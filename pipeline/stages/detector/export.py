"""A detector as ONNX graphs in a folder, with all that is known of it and the program that runs them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from pipeline.config.backbone_names import TPN_NAMES
from pipeline.data.decoding.decode import iter_frames
from pipeline.errors import DetectorError, OutputError
from pipeline.hashing import file_sha256
from pipeline.models.fast_tpn import FastTPN
from pipeline.models.heads.base import BinaryHead
from pipeline.progress import Say, silent
from pipeline.stages.common.picture import picture_fit
from pipeline.stages.detector.detector import Detector
from pipeline.stages.detector.document import Document
from pipeline.stages.detector.graphs import OPSET, check_extra, graphs_of, to_onnx
from pipeline.stages.detector.probe import CLIP_SIZE, TOLERANCE, probe_scores, write_clip
from pipeline.stages.scoring.causal import check_causal

__all__ = ["export_onnx", "write_facts"]

FORMAT, FORMAT_WHOLE = 1, 2
"""Version of the form of the folder, which the runner reads: 2 where the backbone sees the whole picture, of which the
runners before knew nothing."""

AGREEMENT = 1e-4
"""By which scores may differ from those of a float32 detector."""

RUNNER = Path(__file__).with_name("gig_onnx.py")


def export_onnx(detector: Detector, folder: Path, say: Say = silent) -> float:
    """Write frames.onnx, clips.onnx, reduce.onnx, head.onnx, detector.json and gig_onnx.py.

    The graphs compute in float32. Before the folder gets its name, the generated clip is scored by it and by the
    detector itself.

    Args:
        detector: loaded, with the backbone's weights.
        folder: which is not there yet; it appears whole or not at all.
        say: told what a person should know.

    Returns:
        The largest difference between the two scores of the generated clip.

    Raises:
        DetectorError: what exports is not installed, torch cannot export a part, or the graphs score otherwise.
        OutputError: the folder is there, or cannot be written.
        PipelineError: scores are to be causal, and the head sees other windows.
        WeightsError: as `Detector.backbone`.
    """
    check_extra()
    document = detector.document
    if document.backbone.settings.family:
        raise DetectorError(
            f"only detectors with one of {', '.join(TPN_NAMES)} can be exported; this one has {document.backbone.name}"
        )
    if document.scoring.cue == "running":
        check_causal(detector.head.settings)
    if detector.head.settings.cue_of == "top_segments":
        raise DetectorError(
            "a head with cue_of: top_segments cannot be exported: the graphs take the maximum over all windows; the "
            "detector file itself scores with such a head"
        )
    if os.path.lexists(folder):
        raise OutputError(f"{folder}: is there already, and an export replaces nothing: name a new folder")
    if document.backbone.precision != "float32":
        say(
            f"warning: the detector computes in {document.backbone.precision}, the graphs in float32: scores differ by "
            "rounding"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            made = Path(name) / folder.name
            made.mkdir()
            _write(detector, made)
            most = _compare(detector, made, Path(name))
            if os.path.lexists(folder):
                raise OutputError(f"{folder}: was made by something else meanwhile, and an export replaces nothing")
            os.rename(made, folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{folder}: the export cannot be written: {error.strerror or error}") from error
    return most


def _write(detector: Detector, folder: Path) -> None:
    document = detector.document
    about = {"format": _format(document), "name": document.name, "seal": detector.seal}
    network = detector.backbone()
    assert isinstance(network, FastTPN)  # checked before
    size = document.preprocess.size
    assert size is not None  # as above
    for graph in graphs_of(network, detector.head, size, document.test_sampling.window_frames):
        model = to_onnx(graph, about | {"graph": graph.name})
        (folder / f"{graph.name}.onnx").write_bytes(model.SerializeToString())
    write_facts(detector, folder)
    shutil.copyfile(RUNNER, folder / RUNNER.name)


def write_facts(detector: Detector, folder: Path) -> None:
    """Write detector.json, which says what the graphs that lie in `folder` are and how they are run."""
    document, head = detector.document, detector.head
    facts = {
        "format": _format(document),
        "name": document.name,
        "seal": detector.seal,
        "opset": OPSET,
        "precision": "float32",
        "made_by": {"gig-vad": importlib.metadata.version("gig-vad"), "torch": torch.__version__},
        "files": {path.name: file_sha256(path) for path in sorted(folder.glob("*.onnx"))},
        "head": {"own_score": isinstance(head.module, BinaryHead), "context": head.module.context},
        "document": document.model_dump(mode="json"),
    }
    if document.preprocess.fit == "letterbox":
        facts["padding"] = list(picture_fit(document.preprocess).colour)
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "detector.json").write_text(text + "\n", encoding="utf-8")


def _format(document: Document) -> int:
    return FORMAT if document.preprocess.fit == "crop" else FORMAT_WHOLE


def _compare(detector: Detector, made: Path, scratch: Path) -> float:
    """Score the generated clip both ways; the largest difference. Raises DetectorError where it is too large."""
    most = float(np.abs(_scores_of_clip(detector, made, scratch) - probe_scores(detector).anomaly).max())
    precision = detector.document.backbone.precision
    allowed = AGREEMENT if precision == "float32" else TOLERANCE[precision]
    if not most <= allowed:
        raise DetectorError(
            f"{made.name}: the graphs score the generated clip otherwise than the detector, by {most:.3g}; expected at "
            f"most {allowed:g}"
        )
    return most


def _scores_of_clip(detector: Detector, made: Path, scratch: Path) -> np.ndarray:
    """Scores (N,) of the generated clip by the graphs."""
    from pipeline.stages.detector.gig_onnx import ExportedDetector  # onnxruntime is no dependency of the rest

    write_clip(scratch / "clip")
    frames = iter_frames(scratch / "clip", picture_fit(detector.document.preprocess))
    pictures = (frame.image for frame in frames if frame.image is not None)
    return ExportedDetector(made).score(pictures, lambda: CLIP_SIZE).anomaly
