"""CitySCENE: the 12 classes of the paper. Its annotation files are not public, so the layout is this project's own.

Training videos lie in a folder of their class, `train/<class>/`, or of several, `train/Fighting;Robbery/`; normal ones
in `train/Normal/`. Test videos lie in `test/`. The intervals are in a CSV file with the columns video_id, label,
start_frame, end_frame; frames are counted from 0 and the end is not part of the interval. A test video's labels are
those of its intervals; one without intervals is normal. A video's id is its file's name without the suffix.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import CitySceneDataset
from pipeline.data.datasets.csv import read_interval_table
from pipeline.data.datasets.listed import NORMAL, ListedInterval, ListedVideo, below, listed_files
from pipeline.data.problems import Problems
from pipeline.remote import AnyPath

__all__ = ["PUBLISHED", "VERSION", "annotation_files", "read_intervals", "read_videos"]

VERSION = 1
PUBLISHED = False


def annotation_files(dataset: CitySceneDataset) -> list[AnyPath]:
    """The files that intervals are read from; labels of training videos are names of folders."""
    files = [dataset.root / dataset.annotations]
    return [*files, dataset.root / dataset.frame_counts] if dataset.frame_counts else files


def read_videos(dataset: CitySceneDataset, problems: Problems) -> list[ListedVideo]:
    """The videos in the two folders; those for training are labelled by their folder."""
    intervals = read_interval_table(dataset.root / dataset.annotations, Problems())
    videos = []
    for split, name in (("train", dataset.train), ("test", dataset.test)):
        folder = dataset.root / name
        for path in listed_files(dataset, split, name, problems):
            place, video_id = str(path), path.name if path.is_dir() else path.stem
            if split == "train":
                names = path.relative_to(folder).parts[0].split(";")
                labels = tuple(dict.fromkeys(name.strip() for name in names if name.strip() != NORMAL))
                if path.parent == folder or (labels and len(labels) < len(names)):
                    expected = f"a folder of a class, of classes separated by ';', or {NORMAL}, below {folder}"
                    problems.add(place, f"expected {expected}")
            else:
                labels = tuple(dict.fromkeys(x.interval.label for x in intervals if x.interval.video_id == video_id))
            videos.append(ListedVideo(place, video_id, below(dataset.root, path), split, labels))
    return videos


def read_intervals(
    dataset: CitySceneDataset, videos: Sequence[ListedVideo], problems: Problems, notes: list[str]
) -> list[ListedInterval]:
    """The rows of the annotation file."""
    return read_interval_table(dataset.root / dataset.annotations, problems)
