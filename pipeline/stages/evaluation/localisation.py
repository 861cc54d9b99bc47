"""Does spatial reasoning look at the anomaly? Needs the places of anomalies, which only generated data sets have."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cache.names import escape
from pipeline.config import Experiment, GeneratedDataset
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.metrics.spatial import LocalisationMetrics, SeenWindows, box_coverage, energy_shares, hits
from pipeline.stages.common.digests import places_known
from pipeline.stages.common.picture import fit_of, map_size

__all__ = ["AnomalyBox", "NoLocalisation", "anomaly_boxes", "anomaly_cells", "judge_localisation"]


class NoLocalisation(Exception):
    """There are no metrics of localisation; the message says why."""


@dataclass(frozen=True)
class AnomalyBox:
    """Where an anomaly is in the picture that the backbone sees.

    Attributes:
        label: its class.
        edges: x0, y0, x1, y1 in pixels of that picture, not clipped to it.
    """

    label: str
    edges: tuple[float, float, float, float]

    def cell(self, experiment: Experiment) -> int | None:
        """The cell of the feature map in which its middle lies, row x W + column; None beyond the picture."""
        fit, (rows, columns) = fit_of(experiment), map_size(experiment)
        x0, y0, x1, y1 = self.edges
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if not (0 <= x < fit.width and 0 <= y < fit.height):
            return None
        return int(y * rows / fit.height) * columns + int(x * columns / fit.width)


def anomaly_boxes(
    experiment: Experiment, manifest: Manifest, split: str = "test"
) -> Mapping[tuple[str, int], list[AnomalyBox]]:
    """Where the anomalies of the videos of a split are.

    Returns:
        (video id, frame) -> boxes; only frames that show one.

    Raises:
        OSError: the data set has no boxes.csv.
    """
    fit = fit_of(experiment)
    geometries = {e.video_id: fit.geometry(e.width, e.height) for e in manifest.split(split)}
    boxes: dict[tuple[str, int], list[AnomalyBox]] = {}
    with (manifest.root / "boxes.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if geometry := geometries.get(row["video_id"]):
                x0, y0, x1, y1 = (float(row[name]) for name in ("x0", "y0", "x1", "y1"))
                box = AnomalyBox(row["label"], geometry.box_to_picture(x0, y0, x1, y1))
                boxes.setdefault((row["video_id"], int(row["frame"])), []).append(box)
    return boxes


def anomaly_cells(
    experiment: Experiment, manifest: Manifest, split: str = "test"
) -> Mapping[tuple[str, int], set[int]]:
    """The cells of the feature map in which the middle of an anomaly lies.

    Returns:
        (video id, frame) of the videos of the split -> cells, as row x W + column; only frames that have one.

    Raises:
        OSError: the data set has no boxes.csv.
    """
    found = {place: _cells(boxes, experiment) for place, boxes in anomaly_boxes(experiment, manifest, split).items()}
    return {place: cells for place, cells in found.items() if cells}


def judge_localisation(
    experiment: Experiment, manifest: Manifest, scores_folder: Path, left_out: Sequence[str] = ()
) -> LocalisationMetrics:
    """Compare the cells that spatial reasoning chose, and its relation maps, with the places of anomalies.

    A window is judged by the anomalies of its middle frame.

    Args:
        experiment: settings.
        manifest: its videos.
        scores_folder: score tables, with those of the windows.
        left_out: ids of test videos that are not judged.

    Raises:
        NoLocalisation: the data set does not say where anomalies are, or the head does not say where it looks.
    """
    if not places_known(experiment):
        generated = isinstance(experiment.dataset, GeneratedDataset)
        raise NoLocalisation(
            "features are imported, so the place of a cell in the picture is not known"
            if generated
            else "the data set does not say where in the picture its anomalies are"
        )
    boxes = anomaly_boxes(experiment, manifest)
    general: dict[str, SeenWindows] = {}
    by_class: dict[str, dict[str, SeenWindows]] = {label: {} for label in manifest.classes}
    for entry in manifest.split("test"):
        if entry.video_id in left_out:
            continue
        windows = pq.read_table(scores_folder / "windows" / f"{escape(entry.video_id)}.parquet")
        middles = (windows["first_frame"].to_numpy() + windows["last_frame"].to_numpy()) // 2
        positions, relations = windows["positions"].to_pylist(), windows["relations"].to_pylist()
        if positions and not positions[0]:
            raise NoLocalisation("the head chooses no cells: it pools whole maps")
        shape = _Shape.of(experiment, entry)
        every = _Windows(shape)
        of_class = {label: _Windows(shape) for label in manifest.classes}
        for middle, chosen, relation in zip(middles.tolist(), positions, relations, strict=True):
            shown = boxes.get((entry.video_id, middle), [])
            every.add(shown, chosen, relation)
            for label, windows_of_class in of_class.items():
                windows_of_class.add([box for box in shown if box.label == label], chosen, relation)
        general[entry.video_id] = every.seen()
        for label, windows_of_class in of_class.items():
            by_class[label][entry.video_id] = windows_of_class.seen()
    return LocalisationMetrics(general, by_class)


@dataclass(frozen=True)
class _Shape:
    """The picture and the map of a video.

    Attributes:
        experiment: settings.
        seen: share of every cell that shows the video, not padding.
    """

    experiment: Experiment
    seen: np.ndarray

    @classmethod
    def of(cls, experiment: Experiment, entry: VideoEntry) -> _Shape:
        whole = fit_of(experiment).geometry(entry.width, entry.height).box_to_picture(0, 0, entry.width, entry.height)
        return cls(experiment, _coverage(experiment, [whole]))


@dataclass
class _Windows:
    """The windows of a video in which some anomalies are seen.

    Attributes:
        shape: of the video.
        chosen, cells: of each window in whose picture the middle of an anomaly lies, the cells chosen and those that
            hold a middle.
        relations, coverage: of each window in whose picture any of an anomaly lies, the relation map and the share of
            every cell that is covered.
    """

    shape: _Shape
    chosen: list[list[int]] = field(default_factory=list)
    cells: list[set[int]] = field(default_factory=list)
    relations: list[list[float]] = field(default_factory=list)
    coverage: list[np.ndarray] = field(default_factory=list)

    def add(self, boxes: Sequence[AnomalyBox], chosen: list[int], relation: list[float]) -> None:
        """Add a window and what its middle frame shows, which may be nothing."""
        if not boxes:
            return
        if cells := _cells(boxes, self.shape.experiment):
            self.chosen.append(chosen)
            self.cells.append(cells)
        covered = _coverage(self.shape.experiment, [box.edges for box in boxes])
        if covered.any():
            self.relations.append(relation)
            self.coverage.append(covered)

    def seen(self) -> SeenWindows:
        """What they say."""
        seen = self.shape.seen
        chosen = np.array(self.chosen or np.empty((0, 1)), dtype=np.int64)
        # A random choice is among the cells that show something, as many as are chosen at least.
        found, chances = hits(chosen, self.cells, max(int((seen > 0).sum()), chosen.shape[1]))
        coverage = np.array(self.coverage).reshape(-1, len(seen))
        energies = energy_shares(np.array(self.relations).reshape(-1, len(seen)), coverage)
        return SeenWindows(found, chances, energies, coverage.sum(axis=1) / seen.sum())


def _coverage(experiment: Experiment, boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    fit = fit_of(experiment)
    return box_coverage(boxes, fit.height, fit.width, *map_size(experiment)).ravel()


def _cells(boxes: Iterable[AnomalyBox], experiment: Experiment) -> set[int]:
    return {cell for box in boxes if (cell := box.cell(experiment)) is not None}
