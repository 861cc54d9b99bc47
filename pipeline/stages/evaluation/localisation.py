"""Does spatial reasoning look at the anomaly? Needs the places of anomalies, which only generated data sets have."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.config import Experiment
from pipeline.data.decoding.geometry import crop_geometry
from pipeline.data.manifest import Manifest
from pipeline.metrics.spatial import hit_rate
from pipeline.stages.common.picture import map_size

__all__ = ["anomaly_cells", "localisation"]


def anomaly_cells(
    experiment: Experiment, manifest: Manifest, split: str = "test"
) -> Mapping[tuple[str, int], set[int]]:
    """The cells of the feature map in which the middle of an anomaly lies.

    Returns:
        (video id, frame) of the videos of the split -> cells, as row x W + column; only frames that have one.

    Raises:
        OSError: the data set has no boxes.csv.
    """
    shape = experiment.preprocess
    side = shape.crop // 32
    geometries = {
        e.video_id: crop_geometry(e.width, e.height, shape.short_side, shape.crop) for e in manifest.split(split)
    }
    cells: dict[tuple[str, int], set[int]] = {}
    with (manifest.root / "boxes.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["video_id"] not in geometries:
                continue
            x0, y0, x1, y1 = (float(row[name]) for name in ("x0", "y0", "x1", "y1"))
            x, y = geometries[row["video_id"]].to_crop((x0 + x1) / 2, (y0 + y1) / 2)
            if 0 <= x < shape.crop and 0 <= y < shape.crop:
                cells.setdefault((row["video_id"], int(row["frame"])), set()).add(int(y // 32) * side + int(x // 32))
    return cells


def localisation(experiment: Experiment, manifest: Manifest, scores_folder: Path) -> dict[str, float | None]:
    """How often spatial reasoning chooses the anomaly's cell.

    A window is a hit when the anomaly's cell at its middle frame is among the k chosen ones.

    Args:
        experiment: of a generated data set.
        manifest: its videos.
        scores_folder: score tables, with those of the windows.

    Returns:
        hit_rate, hit_rate_chance (of cells chosen at random) and hit_rate_windows (how many were judged). The rates are
        None where no window shows an anomaly inside the crop, and where the head chooses no cells.
    """
    cells = anomaly_cells(experiment, manifest)
    chosen: list[list[int]] = []
    true: list[set[int]] = []
    for entry in manifest.split("test"):
        windows = pq.read_table(scores_folder / "windows" / f"{escape(entry.video_id)}.parquet")
        middles = (windows["first_frame"].to_numpy() + windows["last_frame"].to_numpy()) // 2
        for middle, positions in zip(middles.tolist(), windows["positions"].to_pylist(), strict=True):
            if found := cells.get((entry.video_id, middle)):
                chosen.append(positions)
                true.append(found)
    if not chosen or not chosen[0]:  # no window shows an anomaly inside the crop, or pooled maps: nothing was chosen
        return {"hit_rate": None, "hit_rate_chance": None, "hit_rate_windows": 0}
    rows, columns = map_size(experiment)
    result = hit_rate(np.asarray(chosen), true, rows * columns)
    return {"hit_rate": result.rate, "hit_rate_chance": result.chance, "hit_rate_windows": result.windows}
