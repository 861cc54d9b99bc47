"""A generated clip by which a detector is tried out: the same on every machine, and free of any codec's rounding."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.errors import DetectorError
from pipeline.stages.common.device import pick_device
from pipeline.stages.detector.document import Probe

if TYPE_CHECKING:
    from pipeline.stages.detector.detector import Detector

__all__ = ["CLIP_SIZE", "TOLERANCE", "check_probe", "probe_scores", "write_clip"]

FRAMES, WIDTH, HEIGHT, SIDE = 12, 160, 120, 40
CLIP_SIZE = (WIDTH, HEIGHT)
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""By which scores of one detector may differ between machines, by the precision of its backbone."""


def write_clip(folder: Path) -> None:
    """Write the clip as a folder of images: a bright square crosses a grey gradient."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(FRAMES):
        picture = np.stack([rows, columns, (rows + columns) // 2], axis=-1).astype(np.uint8)
        left = number * (WIDTH - SIDE) // (FRAMES - 1)
        picture[SIDE : 2 * SIDE, left : left + SIDE] = (250, 220, 40)
        Image.fromarray(picture).save(folder / f"{number:03}.png")


def probe_scores(detector: Detector) -> Probe:
    """Scores of the clip on this machine."""
    with tempfile.TemporaryDirectory(prefix="gig-clip-") as name:
        write_clip(Path(name) / "clip")
        found = detector.score(Path(name) / "clip")
    device = pick_device(detector.experiment.machine.device).type
    return Probe(anomaly=tuple(map(float, found.anomaly)), device=device)


def check_probe(detector: Detector) -> float:
    """Score the clip and compare with the scores in the detector.

    Returns:
        The largest difference; 0 where the detector holds none.

    Raises:
        DetectorError: it is larger than `TOLERANCE`, or a score is no number from 0 to 1.
    """
    found, known = probe_scores(detector), detector.document.probe
    scores = np.array(found.anomaly)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise DetectorError(f"the generated clip: expected scores from 0 to 1, got {scores.min()} to {scores.max()}")
    if known is None:
        return 0.0
    if len(known.anomaly) != len(scores):
        raise DetectorError(f"the generated clip: expected {len(known.anomaly)} scores, got {len(scores)}")
    most, allowed = float(np.abs(scores - known.anomaly).max()), TOLERANCE[detector.document.backbone.precision]
    if most > allowed:
        raise DetectorError(
            f"the generated clip: scores on this machine ({found.device}) differ by {most:.3g} from those of the "
            f"machine that packed the detector ({known.device}); expected at most {allowed:g}"
        )
    return most
